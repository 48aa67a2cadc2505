//! Which paths a source names, through `use` trees, expressions, types and macro arguments. Comments and strings do not
//! count. Not resolved: aliases (`use std::fs as f` is the name `std::fs` once, where it is declared).

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path that a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// Its segments; the last one is `*` for a glob.
    pub(super) segments: Vec<String>,
    /// From 1.
    pub(super) line: usize,
    /// The inline modules around it, from the outside.
    pub(super) inside: Vec<String>,
    /// Whether it is below `#[cfg(test)]` (or the like).
    pub(super) in_test: bool,
    /// Whether a `use` declares it, so that what follows it may be hidden behind a shorter name.
    pub(super) imported: bool,
}

/// What the rules look at.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) names: Vec<Name>,
    /// Lines with the keyword `unsafe`, attributes such as `#[unsafe(no_mangle)]` included.
    pub(super) unsafe_lines: Vec<usize>,
}

/// Parses a source file.
pub(super) fn of_source(text: &str) -> Result<Source, String> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
    let file = syn::parse_file(text).map_err(|error| format!("line {}: {error}", error.span().start().line))?;
    let mut collector = Collector::default();
    collector.visit_file(&file);
    let mut unsafe_lines = Vec::new();
    keyword_lines(tokens, "unsafe", &mut unsafe_lines);
    Ok(Source { names: collector.names, unsafe_lines })
}

#[derive(Default)]
struct Collector {
    names: Vec<Name>,
    inside: Vec<String>,
    in_test: bool,
}

impl Collector {
    fn push(&mut self, segments: Vec<String>, line: usize, imported: bool) {
        let (inside, in_test) = (self.inside.clone(), self.in_test);
        self.names.push(Name { segments, line, inside, in_test, imported });
    }

    fn use_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |last: String| before.iter().cloned().chain([last]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&path.tree, &with(path.ident.to_string())),
            // `use a::{self}` names `a`.
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.push(before.to_vec(), name.ident.span().start().line, true);
            }
            syn::UseTree::Name(name) => self.push(with(name.ident.to_string()), name.ident.span().start().line, true),
            syn::UseTree::Rename(rename) => {
                let segments = if rename.ident == "self" { before.to_vec() } else { with(rename.ident.to_string()) };
                self.push(segments, rename.ident.span().start().line, true);
            }
            syn::UseTree::Glob(glob) => self.push(with("*".to_owned()), glob.star_token.spans[0].start().line, true),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.use_tree(item, before)),
        }
    }

    /// Macro arguments need not be Rust: every `a::b::c` in them counts.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.flush(&mut segments, line);
                    }
                    if segments.is_empty() {
                        line = ident.span().start().line;
                    }
                    segments.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    // `use a::{b, c}` in a macro: the group continues the path.
                    if colons == 2 && group.delimiter() == Delimiter::Brace {
                        segments.push("*".to_owned());
                    }
                    self.flush(&mut segments, line);
                    colons = 0;
                    self.tokens(group.stream());
                }
                _ => {
                    self.flush(&mut segments, line);
                    colons = 0;
                }
            }
        }
        self.flush(&mut segments, line);
    }

    fn flush(&mut self, segments: &mut Vec<String>, line: usize) {
        if segments.len() > 1 {
            self.push(std::mem::take(segments), line, false);
        }
        segments.clear();
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let before = self.in_test;
        self.in_test |= attributes(item).iter().any(is_for_tests);
        visit::visit_item(self, item);
        self.in_test = before;
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.inside.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.inside.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.push(vec![item.ident.to_string()], item.ident.span().start().line, true);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        if segments.len() > 1 {
            self.push(segments, line, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.visit_path(&invocation.path);
        self.tokens(invocation.tokens.clone());
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[test]`; not `#[cfg(not(test))]`, `#[cfg(any(test, …))]`.
fn is_for_tests(attribute: &syn::Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else {
        return false;
    };
    let condition = list.tokens.to_string().replace(' ', "");
    attribute.path().is_ident("cfg") && (condition == "test" || condition.starts_with("all(test"))
}

fn keyword_lines(tokens: TokenStream, keyword: &str, lines: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == keyword => lines.push(ident.span().start().line),
            TokenTree::Group(group) => keyword_lines(group.stream(), keyword, lines),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::of_source;

    fn names(text: &str) -> Vec<String> {
        of_source(text).unwrap().names.into_iter().map(|name| name.segments.join("::")).collect()
    }

    #[test]
    fn every_branch_of_a_use_tree_is_a_name() {
        assert_eq!(
            names("use std::{fs, time::{self, Instant as I}, io::*};"),
            ["std::fs", "std::time", "std::time::Instant", "std::io::*"]
        );
    }

    #[test]
    fn paths_in_types_expressions_and_macros_are_names() {
        assert_eq!(names("fn f(a: a::B) { c::d(); println!(\"{}\", e::f(g::h)); }"), ["a::B", "c::d", "e::f", "g::h"]);
    }

    #[test]
    fn comments_and_strings_are_not_names() {
        assert!(names("// std::fs\n/// std::fs\nconst A: &str = \"std::fs\"; /* unsafe */").is_empty());
        assert!(of_source("// unsafe\nconst A: &str = \"unsafe\";").unwrap().unsafe_lines.is_empty());
    }

    #[test]
    fn code_for_tests_is_told_apart() {
        let source = of_source("fn f() { a::b(); }\n#[cfg(test)]\nmod tests { fn g() { a::b(); } }").unwrap();
        let seen: Vec<_> = source.names.iter().map(|name| (name.line, name.in_test, name.inside.len())).collect();
        assert_eq!(seen, [(1, false, 0), (3, true, 1)]);
    }
}
