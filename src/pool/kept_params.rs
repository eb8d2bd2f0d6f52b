//! Parameters that are kept until their request can be sent.

use crate::error::PgResult;
use crate::types::{Encoded, Oid, Out, Params, ToSql, TypeMap};
use crate::wire::frontend::Unwritable;

/// The parameters of a request that has to wait, encoded as what they declare themselves to be.
#[derive(Debug)]
pub(super) struct KeptParams {
    params: Vec<KeptParam>,
}

#[derive(Debug)]
struct KeptParam {
    oid: Oid,
    encoded: Encoded,
    bytes: Box<[u8]>,
    rust_type: &'static str,
}

impl KeptParams {
    /// Encodes `params`.
    ///
    /// # Errors
    ///
    /// [`PgError::Parameter`](crate::PgError::Parameter) when one cannot be sent.
    pub(super) fn new(params: &dyn Params) -> PgResult<Self> {
        let types = TypeMap::builtin();
        let keep = |index: usize| {
            let Some(param) = params.param(index) else { return Ok(None) };
            let mut bytes = Vec::new();
            let mut out = Out::new(&mut bytes);
            let encoded = param.encode(types, &mut out);
            let fits = encoded.and_then(|encoded| match out.overflowed() {
                true => Err(Unwritable::TooLong.into()),
                false => Ok(encoded),
            });
            let encoded = fits.map_err(|error| error.at_parameter(index + 1))?;
            let (oid, rust_type) = (param.declare(types), param.rust_type());
            Ok(Some(KeptParam { oid, encoded, bytes: bytes.into(), rust_type }))
        };
        let params = (0..params.len())
            .filter_map(|index| keep(index).transpose())
            .collect::<PgResult<_>>()?;
        Ok(Self { params })
    }
}

impl Params for KeptParams {
    fn len(&self) -> usize {
        self.params.len()
    }
    fn param(&self, index: usize) -> Option<&dyn ToSql> {
        self.params.get(index).map(|param| param as &dyn ToSql)
    }
}

impl ToSql for KeptParam {
    fn declare(&self, _: &TypeMap) -> Oid {
        self.oid
    }
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put(&self.bytes);
        Ok(self.encoded)
    }
    fn rust_type(&self) -> &'static str {
        self.rust_type
    }
}
