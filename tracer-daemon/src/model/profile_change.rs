//! What has changed between two heap profiles, by site.

use std::collections::BTreeMap;

use super::SiteId;
use super::site::{Placed, place_allocation, place_outside_standard_library};
use crate::symbolize::Frame;

/// Objects and bytes; negative in a profile that is itself a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Objects.
    pub objects: i64,
    /// Their bytes.
    pub bytes: i64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.objects = self.objects.saturating_add(other.objects);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// An amount in the first profile and in the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// In the first.
    pub before: Amount,
    /// In the second.
    pub after: Amount,
}

impl Change {
    /// The second less the first.
    pub fn difference(self) -> Amount {
        Amount {
            objects: self.after.objects.saturating_sub(self.before.objects),
            bytes: self.after.bytes.saturating_sub(self.before.bytes),
        }
    }

    fn add(&mut self, side: Side, amount: Amount) {
        match side {
            Side::Before => self.before.add(amount),
            Side::After => self.after.add(amount),
        }
    }
}

/// One stack of a profile with what it allocated.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileStack {
    /// Leaf first.
    pub frames: Vec<Frame>,
    /// In use.
    pub in_use: Amount,
    /// Since the program began.
    pub allocated: Amount,
}

/// What one site did.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteChange {
    /// Who it is.
    pub id: SiteId,
    /// The line a person would change.
    pub place: Frame,
    /// The frame below the runtime.
    pub allocator: Frame,
    /// In use.
    pub in_use: Change,
    /// Since the program began.
    pub allocated: Change,
    /// The stacks that lead to it, by growth of the bytes in use, descending.
    pub paths: Vec<PathChange>,
}

/// What one stack did.
#[derive(Clone, Debug, PartialEq)]
pub struct PathChange {
    /// Leaf first, those of the runtime at both ends left out.
    pub frames: Vec<Frame>,
    /// In use.
    pub in_use: Change,
}

/// What has changed between two profiles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileChange {
    /// In use, of all.
    pub in_use: Change,
    /// Allocated, of all.
    pub allocated: Change,
    /// By growth of the bytes in use, descending; those that shrank last.
    pub sites: Vec<SiteChange>,
    /// In use, of stacks without a frame.
    pub unknown: Change,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Before,
    After,
}

/// Compares two profiles. Where the main module is not known, the first frame outside of the standard library is the place.
pub fn compare(before: &[ProfileStack], after: &[ProfileStack], main_module: Option<&str>) -> ProfileChange {
    let mut change = ProfileChange::default();
    let mut sites: BTreeMap<SiteId, (SiteChange, BTreeMap<Vec<Frame>, Change>)> = BTreeMap::new();
    let sides = before.iter().map(|stack| (Side::Before, stack)).chain(after.iter().map(|stack| (Side::After, stack)));
    for (side, stack) in sides {
        change.in_use.add(side, stack.in_use);
        change.allocated.add(side, stack.allocated);
        let placed = match main_module {
            Some(_) => place_allocation(&stack.frames, main_module),
            None => place_outside_standard_library(&stack.frames),
        };
        let Some(Placed { id, place, allocator, frames }) = placed else {
            change.unknown.add(side, stack.in_use);
            continue;
        };
        let (site, paths) = sites.entry(id).or_insert_with(|| {
            let (in_use, allocated) = (Change::default(), Change::default());
            let site = SiteChange {
                id,
                place: place.clone(),
                allocator: allocator.clone(),
                in_use,
                allocated,
                paths: Vec::new(),
            };
            (site, BTreeMap::new())
        });
        // A line can have moved between two builds; what counts is where it is now.
        (site.place, site.allocator) = (place, allocator);
        site.in_use.add(side, stack.in_use);
        site.allocated.add(side, stack.allocated);
        paths.entry(frames).or_default().add(side, stack.in_use);
    }
    change.sites = sites.into_values().map(|(site, paths)| with_paths(site, paths)).collect();
    change.sites.sort_by_key(|site| (-i128::from(site.in_use.difference().bytes), site.id));
    change
}

fn with_paths(site: SiteChange, paths: BTreeMap<Vec<Frame>, Change>) -> SiteChange {
    let mut paths: Vec<PathChange> = paths.into_iter().map(|(frames, in_use)| PathChange { frames, in_use }).collect();
    paths.sort_by_key(|path| -i128::from(path.in_use.difference().bytes));
    SiteChange { paths, ..site }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::Origin;

    fn stack(functions: &[&str], in_use_bytes: i64) -> ProfileStack {
        let frame = |name: &&str| Frame {
            function: (*name).into(),
            file: "/src/x.go".into(),
            line: 7,
            function_start_line: 1,
            inlined: false,
            origin: Origin::Go,
        };
        let amount = |bytes: i64| Amount { objects: bytes / 10, bytes };
        let frames = functions.iter().map(frame).collect();
        ProfileStack { frames, in_use: amount(in_use_bytes), allocated: amount(in_use_bytes.abs() * 2) }
    }

    #[test]
    fn sites_are_sorted_by_growth_and_sum_to_the_whole() {
        let before = [stack(&["main.a", "main.main"], 500), stack(&["main.b", "main.main"], 100), stack(&[], 10)];
        let after = [
            stack(&["main.a", "main.main"], 200),
            stack(&["main.b", "main.main"], 150),
            stack(&["main.b", "main.other"], 350),
        ];
        let change = compare(&before, &after, None);
        let growth: Vec<(&str, i64)> =
            change.sites.iter().map(|site| (&*site.place.function, site.in_use.difference().bytes)).collect();
        assert_eq!(growth, [("main.b", 400), ("main.a", -300)]);
        let paths: Vec<i64> = change.sites[0].paths.iter().map(|path| path.in_use.difference().bytes).collect();
        assert_eq!(paths, [350, 50]);
        assert_eq!(change.unknown.difference().bytes, -10);
        let sum: i64 = growth.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(change.in_use.difference().bytes, sum - 10);
    }

    #[test]
    fn main_is_not_preferred_where_the_main_module_is_not_known() {
        let stacks = [stack(&["bytes.grow", "example.com/shop/cart.Add", "main.main"], 10)];
        let place = |main_module| compare(&[], &stacks, main_module).sites[0].place.function.to_string();
        assert_eq!(place(None), "example.com/shop/cart.Add");
        assert_eq!(place(Some("example.com/other")), "main.main");
        assert_eq!(place(Some("example.com/shop")), "example.com/shop/cart.Add");
    }

    #[test]
    fn extreme_amounts_do_not_overflow() {
        let mut least = stack(&["main.a"], 0);
        least.in_use.bytes = i64::MIN;
        let mut most = least.clone();
        most.in_use.bytes = i64::MAX;
        let change = compare(&[least], &[most.clone(), most], None);
        assert_eq!(change.sites[0].in_use.difference().bytes, i64::MAX);
    }
}
