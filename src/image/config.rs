//! stub
use crate::{error::Result, id::DiffId};
/// x
#[derive(Clone, Debug)]
pub struct Config {
    d: Vec<DiffId>,
    b: Vec<u8>,
}
/// x
#[derive(Clone, Debug)]
pub struct Step {
    /// x
    pub created: Option<String>,
    /// x
    pub created_by: String,
    /// x
    pub comment: String,
    /// x
    pub layer: Option<usize>,
}
impl Config {
    /// x
    pub fn parse(b: &[u8]) -> Result<Self> {
        Ok(Self { d: vec![], b: b.into() })
    }
    /// x
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.d
    }
    /// x
    pub fn created(&self) -> Option<String> {
        None
    }
    /// x
    pub fn bytes(&self) -> &[u8] {
        &self.b
    }
    /// x
    pub fn imported(_: DiffId, _: &str, _: &str) -> Result<Vec<u8>> {
        Ok(vec![])
    }
    /// x
    pub fn with_layer(&self, _: DiffId, _: &str) -> Result<Vec<u8>> {
        Ok(vec![])
    }
    /// x
    pub fn history(&self) -> Result<Vec<Step>> {
        Ok(vec![])
    }
}
