//! What a source file does: the paths that it names, the methods that it calls, where it indexes,
//! how long its functions are.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::source::Source;

/// Something that a rule may be about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A path with at least two segments, used or imported, such as `std::thread::sleep`. Those
    /// in `self` and `super` of the driver are written out from `crate`.
    Path(Vec<String>),
    /// A method called by this name.
    Method(String),
    /// `a[b]`.
    Index,
    /// A function of this many lines.
    Function(usize),
}

/// Where it is.
pub(crate) struct Site {
    pub(crate) what: What,
    pub(crate) line: usize,
    /// The innermost named function around it.
    pub(crate) function: Option<String>,
    /// Compiled for tests only.
    pub(crate) test: bool,
}

/// Collects the sites of a file. What a macro is called with counts too, although it is only
/// tokens: `write!(f, "{}", bytes[0])` indexes.
#[derive(Default)]
pub(crate) struct Sites {
    sites: Vec<Site>,
    module: Vec<String>,
    functions: Vec<String>,
    test: bool,
}

impl Sites {
    pub(crate) fn of(source: &Source) -> Vec<Site> {
        let module = source.module().unwrap_or_default();
        let mut sites = Self { test: source.test, module, ..Self::default() };
        sites.visit_file(&source.syntax);
        sites.sites
    }

    fn add_path(&mut self, line: usize, mut path: Vec<String>) {
        if path.len() < 2 {
            return;
        }
        let supers = path.iter().take_while(|name| *name == "super").count();
        if supers > 0 || path[0] == "self" {
            let above = self.module.len().saturating_sub(supers);
            let names = path.split_off(supers.max(1));
            path = ["crate".to_owned()]
                .into_iter()
                .chain(self.module[..above].to_vec())
                .chain(names)
                .collect();
        }
        self.add(line, What::Path(path));
    }

    fn add(&mut self, line: usize, what: What) {
        let function = self.functions.last().cloned();
        self.sites.push(Site { what, line, function, test: self.test });
    }

    /// Visits an item with the functions around it, and with tests told apart by its attributes.
    fn inside(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let outer = self.test;
        self.test |= attributes.iter().any(is_for_tests);
        visit(self);
        self.test = outer;
    }

    fn function(
        &mut self,
        sig: &syn::Signature,
        block: &syn::Block,
        visit: impl FnOnce(&mut Self),
    ) {
        let (first, last) = (sig.span().start().line, block.span().end().line);
        self.functions.push(sig.ident.to_string());
        self.add(first, What::Function(last - first + 1));
        visit(self);
        self.functions.pop();
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            let before = &tokens[..index];
            match token {
                TokenTree::Group(group) => {
                    if is_index(before, group) {
                        self.add(group.span_open().start().line, What::Index);
                    }
                    self.tokens(group.stream());
                }
                TokenTree::Ident(ident) if is_method(before, tokens.get(index + 1)) => {
                    self.add(ident.span().start().line, What::Method(ident.to_string()));
                }
                TokenTree::Ident(ident) if !ends_with_path_separator(before) => {
                    self.add_path(ident.span().start().line, path_from(&tokens[index..]));
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Sites {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes: &[syn::Attribute] = match item {
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Macro(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Static(item) => &item.attrs,
            syn::Item::Trait(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => &[],
        };
        self.inside(attributes, |sites| visit::visit_item(sites, item));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block, |sites| visit::visit_item_fn(sites, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.inside(&item.attrs, |sites| {
            sites.function(&item.sig, &item.block, |sites| visit::visit_impl_item_fn(sites, item));
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        match &item.default {
            Some(block) => {
                self.function(&item.sig, block, |sites| visit::visit_trait_item_fn(sites, item));
            }
            None => visit::visit_trait_item_fn(self, item),
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut paths = Vec::new();
        flatten(&item.tree, &[], &mut paths);
        for path in paths {
            self.add_path(item.use_token.span.start().line, path);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add_path(path.span().start().line, segments);
        visit::visit_path(self, path);
    }

    fn visit_expr_index(&mut self, index: &'ast syn::ExprIndex) {
        self.add(index.bracket_token.span.open().start().line, What::Index);
        visit::visit_expr_index(self, index);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.add(call.method.span().start().line, What::Method(call.method.to_string()));
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }
}

/// `#[test]`, `#[cfg(test)]` and `#[cfg(all(test, ...))]`.
pub(crate) fn is_for_tests(attribute: &syn::Attribute) -> bool {
    let condition = match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            list.tokens.to_string().replace(' ', "")
        }
        meta => return meta.path().is_ident("test"),
    };
    condition == "test" || condition.starts_with("all(test,")
}

/// The whole paths that a `use` brings in; a glob ends in `*`, a group's `self` in the group.
fn flatten(tree: &syn::UseTree, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let with = |name: String| prefix.iter().cloned().chain([name]).collect::<Vec<_>>();
    match tree {
        syn::UseTree::Path(path) => flatten(&path.tree, &with(path.ident.to_string()), paths),
        syn::UseTree::Name(name) if name.ident == "self" => paths.push(prefix.to_vec()),
        syn::UseTree::Name(name) => paths.push(with(name.ident.to_string())),
        syn::UseTree::Rename(rename) => paths.push(with(rename.ident.to_string())),
        syn::UseTree::Glob(_) => paths.push(with("*".to_owned())),
        syn::UseTree::Group(group) => {
            group.items.iter().for_each(|tree| flatten(tree, prefix, paths))
        }
    }
}

/// Whether a bracket behind these tokens indexes what they end with.
fn is_index(before: &[TokenTree], group: &Group) -> bool {
    const KEYWORDS: [&str; 12] = [
        "as", "break", "const", "dyn", "else", "for", "if", "impl", "in", "match", "mut", "return",
    ];
    group.delimiter() == Delimiter::Bracket
        && match before.last() {
            Some(TokenTree::Ident(ident)) => !KEYWORDS.contains(&ident.to_string().as_str()),
            Some(TokenTree::Group(group)) => {
                matches!(group.delimiter(), Delimiter::Parenthesis | Delimiter::Bracket)
            }
            _ => false,
        }
}

/// Whether the name between these tokens and the next one is that of a method that is called.
fn is_method(before: &[TokenTree], next: Option<&TokenTree>) -> bool {
    let dot = matches!(before.last(), Some(TokenTree::Punct(mark)) if mark.as_char() == '.');
    dot && matches!(next, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
}

fn ends_with_path_separator(tokens: &[TokenTree]) -> bool {
    let is_colon =
        |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ':');
    tokens.len() >= 2 && tokens.iter().rev().take(2).all(is_colon)
}

/// The path that these tokens begin with: names with `::` between them. A group of names or a
/// star at the end is a star.
fn path_from(tokens: &[TokenTree]) -> Vec<String> {
    let mut path = Vec::new();
    let mut rest = tokens;
    while let [TokenTree::Ident(name), after @ ..] = rest {
        path.push(name.to_string());
        match after {
            [a, b, next @ ..] if ends_with_path_separator(&[a.clone(), b.clone()]) => rest = next,
            _ => return path,
        }
    }
    path.push("*".to_owned());
    path
}
