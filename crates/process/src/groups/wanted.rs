//! What is said of a group: its name, its limits and rules, and what cannot be.

use vswap_store::SEGMENT_BYTES;
use vswap_units::Bytes;

use super::error::{GroupError, invalid};

/// The least `ram_max`: sixteen blocks.
const LEAST_RAM: u64 = 1 << 20;
const SEGMENT: u64 = SEGMENT_BYTES as u64;
/// Bytes of a name at most.
const NAME_MOST: usize = 64;

/// Limits to set; `None`: as it is, `Some(None)`: no limit.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) ram: Option<Option<u64>>,
    pub(super) zswap: Option<Option<u64>>,
    pub(super) swap: Option<Option<u64>>,
    pub(super) writeback: Option<bool>,
    pub(super) devices: Option<Vec<String>>,
}

impl Wanted {
    /// Reads `key=value` lines.
    pub(super) fn from_text(text: &str) -> Result<Self, GroupError> {
        let mut wanted = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            wanted.read(key.trim(), value.trim())?;
        }
        Ok(wanted)
    }

    fn read(&mut self, key: &str, value: &str) -> Result<(), GroupError> {
        match key {
            "ram_max" => self.ram = Some(ram_limit(value)?),
            "zswap_max" => self.zswap = Some(segment_limit(key, value)?),
            "swap_max" => self.swap = Some(segment_limit(key, value)?),
            "writeback" => {
                self.writeback = Some(match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(invalid(format!("writeback={value}: give on or off"))),
                });
            }
            "devices" if value == "all" => self.devices = Some(Vec::new()),
            "device" if !value.is_empty() => {
                self.devices.get_or_insert_default().push(value.into());
            }
            _ => return Err(invalid(format!("'{key}={value}' is no setting of a group"))),
        }
        Ok(())
    }
}

fn limit(key: &str, value: &str) -> Result<Option<u64>, GroupError> {
    if value == "none" {
        return Ok(None);
    }
    let bytes = Bytes::parse(value);
    let bytes = bytes.map_err(|error| invalid(format!("{key}={value}: {error}")))?;
    Ok(Some(bytes.0))
}

fn ram_limit(value: &str) -> Result<Option<u64>, GroupError> {
    match limit("ram_max", value)? {
        Some(bytes) if bytes < LEAST_RAM => Err(invalid(format!(
            "ram_max of {} is too small for a group; give at least {}",
            Bytes(bytes),
            Bytes(LEAST_RAM)
        ))),
        other => Ok(other),
    }
}

/// Whole segments; 0 is a limit, less than one segment is a mistake.
fn segment_limit(key: &str, value: &str) -> Result<Option<u64>, GroupError> {
    match limit(key, value)? {
        Some(bytes) if bytes > 0 && bytes < SEGMENT => Err(invalid(format!(
            "{key} of {} is less than one segment; give 0 for none at all, or at least {}",
            Bytes(bytes),
            Bytes(SEGMENT)
        ))),
        other => Ok(other),
    }
}

pub(super) fn check_name(name: &str) -> Result<(), GroupError> {
    let odd = |letter: char| letter.is_control() || letter == '/' || letter == '=';
    if name.is_empty() || name.len() > NAME_MOST || name.contains(odd) {
        return Err(invalid(format!(
            "a group's name has 1 to {NAME_MOST} bytes and none of '/', '=' and control characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_cannot_be_is_refused_with_a_sentence() {
        for (text, word) in [
            ("ram_max=lots", "lots"),
            ("ram_max=100K", "1.0 MiB"),
            ("zswap_max=1000", "256.0 KiB"),
            ("swap_max=-5", "-5"),
            ("writeback=maybe", "on or off"),
            ("speed=11", "speed"),
            ("ram_max", "ram_max"),
        ] {
            let error = Wanted::from_text(text).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
        let wanted = Wanted::from_text("zswap_max=0\nswap_max=none\ndevice=/a\ndevice=/b").unwrap();
        assert_eq!((wanted.zswap, wanted.swap), (Some(Some(0)), Some(None)));
        assert_eq!(wanted.devices.unwrap().len(), 2);
    }

    #[test]
    fn a_name_is_short_and_fits_in_a_path() {
        assert!(check_name("web 2").is_ok());
        for name in ["", "a/b", "a=b", "a\nb", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
