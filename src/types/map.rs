//! What is known of the server's types: by now the ones that every server has.

use super::{Oid, TypeInfo, oid_table};

/// The types that a connection knows, by [`Oid`].
///
/// It is handed to every [`ToSql`](super::ToSql) so that a type can find the OIDs that it depends
/// on.
#[derive(Debug)]
pub struct TypeMap(());

impl TypeMap {
    /// The types of PostgreSQL's own catalogue, whose OIDs are the same on every server.
    pub const fn builtin() -> &'static Self {
        static BUILTIN: TypeMap = TypeMap(());
        &BUILTIN
    }

    /// What is known of type `oid`, `None` for a type that is not in the catalogue of a stock
    /// server.
    pub fn info(&self, oid: Oid) -> Option<&'static TypeInfo> {
        oid_table::builtin(oid.get())
    }

    /// The array type whose elements are `element`.
    pub fn array_of(&self, element: Oid) -> Option<Oid> {
        let info = self.info(element)?;
        (info.array != 0).then(|| Oid::new(info.array))
    }

    /// The element type of the array type `array`.
    pub fn element_of(&self, array: Oid) -> Option<Oid> {
        let info = self.info(array)?;
        (info.kind == super::TypeKind::Array).then(|| Oid::new(info.element))
    }

    /// The name of type `oid` for people: `int4`, `int4[]`, or `oid 16385` when it is not known.
    pub fn describe(&self, oid: Oid) -> String {
        match self.info(oid) {
            Some(info) => match info.name.strip_prefix('_') {
                Some(element) if info.kind == super::TypeKind::Array => format!("{element}[]"),
                _ => info.name.to_owned(),
            },
            None if oid == Oid::UNSPECIFIED => "unspecified".to_owned(),
            None => format!("oid {}", oid.get()),
        }
    }
}
