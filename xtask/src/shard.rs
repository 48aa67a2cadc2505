//! A part of a long command's cells, so that several machines or several evenings can share it.

/// One of several parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// Counted from 0.
    share: usize,
    of: usize,
}

impl Shard {
    /// Every n-th of all.
    pub(crate) fn of<Cell>(self, cells: Vec<Cell>) -> Vec<Cell> {
        cells.into_iter().skip(self.share).step_by(self.of).collect()
    }
}

/// `1/3` is the first third.
pub(crate) fn parse(text: &str) -> Result<Shard, String> {
    let parsed = text.split_once('/').and_then(|(share, of)| Some((share.parse().ok()?, of.parse().ok()?)));
    match parsed {
        Some((share, of)) if (1..=of).contains(&share) => Ok(Shard { share: share - 1, of }),
        _ => Err("not a share such as 1/3".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_nothing_is_refused() {
        assert!(["0/3", "4/3", "1", "a/b"].iter().all(|text| parse(text).is_err()));
        assert_eq!(parse("2/3"), Ok(Shard { share: 1, of: 3 }));
    }

    #[test]
    fn all_parts_together_are_all_cells() {
        let parts = ["1/3", "2/3", "3/3"].map(|text| parse(text).unwrap().of((0..10).collect()));
        assert_eq!(parts[1], [1, 4, 7]);
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }
}
