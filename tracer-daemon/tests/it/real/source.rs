//! Whether a place that leakline names is there in the source: a check that can fail.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::go::Build;

/// Where the sources of a program lie that was built with `-trimpath`.
pub(super) struct Sources {
    module_cache: PathBuf,
    standard_library: PathBuf,
}

impl Sources {
    pub(super) fn of(build: &Build) -> Self {
        Self { module_cache: build.go_env("GOMODCACHE"), standard_library: build.go_env("GOROOT").join("src") }
    }

    /// The line is there and lies in the declaration of the function. The error says what is wrong.
    pub(super) fn check(&self, function: &str, file: &str, line: u64) -> Result<(), String> {
        let path = self.path(file);
        let text = fs::read_to_string(&path).map_err(|error| format!("no such source: {error}"))?;
        let line = usize::try_from(line).map_err(|error| error.to_string())?;
        let lines: Vec<&str> = text.lines().collect();
        let Some(above) = (line > 0).then(|| lines.get(..line)).flatten() else {
            return Err(format!("the file has {} lines", lines.len()));
        };
        let name = declared_name(function);
        if name == "init" && above.iter().any(|line| line.contains("func(")) {
            return Ok(()); // a closure of a package variable belongs to no declaration
        }
        match above.iter().rev().find_map(|line| declaration(line)) {
            Some(declared) if declared == name => Ok(()),
            declared => Err(format!("{name} is not declared there, but {declared:?}")),
        }
    }

    /// `github.com/x/y@v1.2.3/z.go` of a module, `net/http/server.go` of the standard library.
    fn path(&self, file: &str) -> PathBuf {
        let is_module = file.split('/').next().is_some_and(|first| first.contains('.'));
        if is_module { self.module_cache.join(escaped(file)) } else { self.standard_library.join(Path::new(file)) }
    }
}

/// The module cache writes capitals as `!` and the small letter, for file systems that know only one kind.
fn escaped(file: &str) -> String {
    let escape = |letter: char| {
        if letter.is_ascii_uppercase() { format!("!{}", letter.to_ascii_lowercase()) } else { letter.to_string() }
    };
    // Capitals of file names below the module are kept.
    let module_end = file.find('@').and_then(|at| Some(at + file.get(at..)?.find('/')?)).unwrap_or(0);
    let (module, below) = file.split_at(module_end);
    module.chars().map(escape).collect::<String>() + below
}

/// The name in the declaration around a function's code: `Get` of `example.com/x/cache.(*LRU[...]).Get.func1.2`.
fn declared_name(function: &str) -> String {
    let function = function.replace("[...]", "");
    let after_path = function.rsplit('/').next().unwrap_or_default();
    let numbered = |part: &str| {
        let word = part.trim_end_matches(|letter: char| letter.is_ascii_digit());
        word.len() < part.len() && ["", "func", "gowrap", "deferwrap"].contains(&word)
    };
    let named = after_path.split('.').skip(1).filter(|part| !numbered(part)).last().unwrap_or_default();
    named.split('-').next().unwrap_or_default().to_owned()
}

/// The name that a line at the left margin declares: gofmt puts no function of a package elsewhere.
fn declaration(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("func ")?;
    let rest = if rest.starts_with('(') { rest.split_once(") ")?.1 } else { rest };
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

#[test]
fn declared_names_are_those_of_the_source() {
    for (function, expected) in [
        ("main.main", "main"),
        ("github.com/prometheus/prometheus/web.New.setPathWithPrefix.func20.1", "setPathWithPrefix"),
        ("go.etcd.io/etcd/server/v3/storage.(*store).Write", "Write"),
        ("example.com/x/cache.(*LRU[...]).Get.func1.2", "Get"),
        ("example.com/x.Map[...]", "Map"),
        ("example.com/x.(*T).Run.gowrap1", "Run"),
        ("example.com/x.(*T).All-range1", "All"),
        ("example.com/x.init.func3", "init"),
    ] {
        assert_eq!(declared_name(function), expected);
    }
}

#[test]
fn a_place_that_is_not_in_the_source_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("github.com/!burnt!sushi/toml@v1.0.0");
    fs::create_dir_all(&module).unwrap();
    fs::write(module.join("Decode.go"), "package toml\n\nfunc A() {\n}\n\nfunc (d *D[T]) B() {\n\tc()\n}\n").unwrap();
    let sources = Sources { module_cache: folder.path().to_owned(), standard_library: folder.path().to_owned() };
    let check = |function: &str, line| {
        sources.check(
            &format!("github.com/BurntSushi/toml.{function}"),
            "github.com/BurntSushi/toml@v1.0.0/Decode.go",
            line,
        )
    };
    assert_eq!(check("A", 4), Ok(()));
    assert_eq!(check("(*D[...]).B.func1", 7), Ok(()));
    assert!(check("A", 7).unwrap_err().contains("not declared"));
    assert!(check("A", 1).unwrap_err().contains("not declared"));
    assert!(check("A", 0).is_err() && check("A", 9).unwrap_err().contains("8 lines"));
    assert!(sources.check("net/http.(*conn).serve", "net/http/none.go", 1).unwrap_err().contains("no such source"));
}
