//! Whether somebody uses a volume, in this mount namespace or in another.

use super::Store;
use crate::{
    error::{Error, Kind, Result},
    fs::{MountEntry, holders, lasting_mounts},
    id::VolumeId,
};

impl Store {
    /// Ends the use of a volume, or refuses: a mounted one would go on changing.
    pub(crate) fn retire(&self, volume: VolumeId, act: &str) -> Result<()> {
        self.driver.release(volume)?;
        let found = lasting_mounts(self.driver.recognise(volume)?)?;
        if !found.is_empty() || self.driver.active()?.contains(&volume) {
            return Err(Error::new(Kind::InUse, format!("{act}: it is in use: {}", holders(&found))));
        }
        Ok(())
    }

    /// Whether `mount` shows `volume`.
    pub(crate) fn recognises(&self, mount: &MountEntry, volume: VolumeId) -> Result<bool> {
        Ok(self.driver.recognise(volume)?(mount))
    }
}
