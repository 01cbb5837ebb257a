//! stub
use crate::error::{Error, Result};
/// x
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);
impl Reference {
    /// x
    pub fn canonical(&self) -> String {
        self.0.clone()
    }
    /// x
    pub fn familiar_repository(&self) -> String {
        self.0.clone()
    }
    /// x
    pub fn tag(&self) -> Option<&str> {
        None
    }
}
impl std::str::FromStr for Reference {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Ok(Self(s.into()))
    }
}
impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
