//! Finds paths of the machine on which something was built: they say nothing to others and change every build.

use std::env;
use std::path::Path;

/// Folders that only a building machine has. Split so that this file passes its own check.
pub(crate) const FIXED: [&str; 3] = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
/// Bytes of a finding that are shown.
const SHOWN_BYTES: usize = 100;

/// What the kernel object must not contain: [`FIXED`], this workspace, this user's and cargo's home.
pub(crate) fn of_this_machine(root: &Path) -> Vec<String> {
    let folders = [env::var("HOME").ok(), env::var("CARGO_HOME").ok(), Some(root.display().to_string())];
    let folders = folders.into_iter().flatten().map(|folder| folder.trim_end_matches('/').to_owned());
    // A home of "/" would match everything.
    FIXED.iter().map(ToString::to_string).chain(folders.filter(|folder| folder.len() > 1)).collect()
}

/// Where `content` names a path below one of `prefixes`: byte offset and the path. A prefix counts only at the start of
/// a path, so that `a/home/b` is no finding, and only as whole names, so that `/srv/leakline` is none in `/srv/leakline2`.
pub(crate) fn find<'a>(content: &'a [u8], prefixes: &[impl AsRef<str>]) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let slashes = content.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    for at in slashes {
        let starts_path = at == 0 || !continues_path(content[at - 1]);
        let rest: &'a [u8] = &content[at..];
        let named = |prefix: &str| {
            rest.starts_with(prefix.as_bytes())
                && (prefix.ends_with('/') || rest.get(prefix.len()).is_none_or(|&next| !is_name(next)))
        };
        if starts_path && prefixes.iter().any(|prefix| named(prefix.as_ref())) {
            let path = rest.iter().take(SHOWN_BYTES).take_while(|&&byte| is_name(byte) || byte == b'/');
            found.push((at, path.map(|&byte| char::from(byte)).collect()));
        }
    }
    found
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.+@".contains(&byte)
}

/// Whether a slash after this byte goes on with a path (`lib/x`, `~/x`, `$(pwd)/x`, `*/x`) instead of starting one.
fn continues_path(byte: u8) -> bool {
    is_name(byte) || b"~)}]*?$>%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::{FIXED, find};

    fn paths(content: &str, prefixes: &[&str]) -> Vec<String> {
        find(content.as_bytes(), prefixes).into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn a_path_of_the_building_machine_is_found() {
        let path = format!("{}.cargo/registry/x.rs", FIXED[0]);
        assert_eq!(paths(&format!("\0\0{path}\0"), &FIXED), [path.as_str()]);
        assert_eq!(paths(&format!("see file://{path}"), &FIXED), [path.as_str()]);
        assert_eq!(paths(&format!("\"{path}\""), &FIXED), [path.as_str()]);
    }

    #[test]
    fn the_workspace_itself_is_found_even_without_a_file_name() {
        assert_eq!(paths("\0/srv/leakline\0/srv/leakline/x.rs\0", &["/srv/leakline"]).len(), 2);
    }

    #[test]
    fn names_that_only_look_alike_are_not_found() {
        assert!(paths("aya-0.14/src/x.rs /src2/y ~/src/z $(pwd)/src/q", &["/src"]).is_empty());
        assert!(paths(&format!("a{}b", FIXED[1]), &FIXED).is_empty());
    }
}
