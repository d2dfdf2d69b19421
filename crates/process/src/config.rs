//! What an engine is told: one text of `key=value` lines, or the `VSWAP_*`
//! environment with the same words.

use std::fmt;

use vswap_space::Dedup;
use vswap_store::CodecKind;
use vswap_units::Bytes;

use crate::budget::Scope;
use crate::device_spec::DeviceSpec;
use crate::victims::Policy;

/// The least budget: below it the engine's own threads and tables do not fit.
pub const LEAST_RAM: u64 = 16 << 20;

/// See [`Config::pool_percent`].
const POOL_PERCENT: u32 = 35;

/// Before what names a file: plain slots on it.
const SLOTS: &str = "slots:";

/// In place of a device: RAM only.
const NONE: &str = "none";

/// How faults reach the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Faults {
    /// Threads where a privileged userfaultfd can be had, else signals.
    Auto,
    /// Handler threads, one per CPU.
    Thread,
    /// The faulting thread itself, by SIGBUS.
    Signal,
}

/// Where swapped pages may rest besides RAM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SwapSpec {
    /// A file or block device at a path, or the file without a name.
    Device(DeviceSpec),
    /// Plain 4 KiB slots on a file found in one of the ways above.
    Slots(Box<SwapSpec>),
}

impl fmt::Display for SwapSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(spec) => spec.fmt(f),
            Self::Slots(file) => write!(f, "{SLOTS}{file}"),
        }
    }
}

/// The configuration of one engine.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Budget in bytes.
    pub ram: u64,
    /// What the budget bounds.
    pub scope: Scope,
    /// Devices; those without a priority in the order of preference. Empty: RAM only.
    pub swap: Vec<SwapSpec>,
    /// Codec of the store.
    pub codec: CodecKind,
    /// Which pages with equal bytes share them.
    pub dedup: Dedup,
    /// The group that all memory of the program belongs to: its name, and its limits
    /// as lines. `None`: the root, which has none.
    pub group: Option<(String, String)>,
    /// No virtual layer: pages go from their frames to plain slots. For measuring.
    pub direct: bool,
    /// Fault delivery.
    pub faults: Faults,
    /// Allocations below this stay unmanaged; `None`: chosen by the delivery.
    pub min_alloc: Option<u64>,
    /// With devices, compressed pages in RAM take at most this share of the
    /// budget (percent): the rest is worth more as resident pages.
    pub pool_percent: u32,
    /// Which pages go first. Not one of the documented settings: `fifo` is
    /// there for measuring what the default gains.
    pub policy: Policy,
    /// May blocks be brought in before they are touched? Not a documented setting either:
    /// without it the same touches bring in the same pages, for measuring.
    pub read_ahead: bool,
    /// Descriptor of the memory shared with the parent that reports.
    pub tree_fd: Option<i32>,
    /// The same memory as a path, for a process that did not inherit the descriptor.
    pub tree_path: Option<String>,
    /// Where the memory is open to which whoever records wants every event.
    pub events_path: Option<String>,
    /// What the library was built from: told to whoever asks over the control socket.
    pub build_id: &'static str,
}

/// A configuration that cannot be used; displays as one sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ram: 0,
            scope: Scope::Process,
            swap: Vec::new(),
            codec: CodecKind::Lz4,
            dedup: Dedup::default(),
            group: None,
            direct: false,
            faults: Faults::Auto,
            min_alloc: None,
            pool_percent: POOL_PERCENT,
            policy: Policy::default(),
            read_ahead: true,
            tree_fd: None,
            tree_path: None,
            events_path: None,
            build_id: "",
        }
    }
}

impl Config {
    /// Reads `key=value` lines.
    ///
    /// # Errors
    /// A sentence naming the word that was not understood.
    pub fn from_text(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| ConfigError(format!("'{line}' is not key=value")))?;
            config.set(key.trim(), value.trim())?;
        }
        config.checked()
    }

    /// Reads the environment; `None` where vswap is off or was not asked for.
    ///
    /// # Errors
    /// A sentence naming the variable that was not understood.
    pub fn from_env(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, ConfigError> {
        if get("VSWAP").is_some_and(|value| value == "off" || value == "0") {
            return Ok(None);
        }
        let Some(ram) = get("VSWAP_RAM") else {
            return Ok(None);
        };
        let mut config = Self::default();
        config.set("ram", &ram)?;
        for key in [
            "codec",
            "dedup",
            "events_path",
            "faults",
            "group",
            "min_alloc",
            "policy",
            "read_ahead",
            "tree_fd",
            "tree_path",
            "virtual",
        ] {
            if let Some(value) = get(&format!("VSWAP_{}", key.to_uppercase())) {
                config.set(key, &value)?;
            }
        }
        let usual = if config.direct { "slots:auto" } else { "auto" };
        let swap = get("VSWAP_SWAP").unwrap_or_else(|| usual.into());
        for spec in swap.split(['\n', ',']).filter(|spec| !spec.is_empty()) {
            config.set("swap", spec)?;
        }
        config.checked().map(Some)
    }

    fn checked(self) -> Result<Self, ConfigError> {
        check_ram(self.ram)?;
        let is_slots = |spec: &SwapSpec| matches!(spec, SwapSpec::Slots(_));
        if self.direct && (self.swap.is_empty() || !self.swap.iter().all(is_slots)) {
            return Err(ConfigError(format!(
                "without the virtual layer pages can only go to plain slots; give {SLOTS}auto or {SLOTS}PATH and no other device"
            )));
        }
        Ok(self)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let wrong =
            |what: &str| ConfigError(format!("{key}={value} is not understood; give {what}"));
        match key {
            "ram" => self.ram = size(value).ok_or_else(|| wrong("a size such as 300M"))?,
            "scope" => {
                self.scope = match value {
                    "process" => Scope::Process,
                    "space" => Scope::Space,
                    _ => return Err(wrong("process or space")),
                }
            }
            "swap" => self.add_swap(value).ok_or_else(|| {
                wrong("none, or auto or PATH with [:SIZE][@PRIORITY] and slots: before it or not")
            })?,
            "codec" => {
                self.codec = codec(value).ok_or_else(|| wrong("lz4, zstd[:LEVEL] or raw"))?
            }
            "dedup" => {
                self.dedup = Dedup::from_name(value).ok_or_else(|| wrong("off, group or space"))?;
            }
            "faults" => {
                self.faults = match value {
                    "auto" => Faults::Auto,
                    "thread" => Faults::Thread,
                    "signal" => Faults::Signal,
                    _ => return Err(wrong("auto, thread or signal")),
                }
            }
            "group" => {
                let (name, limits) = value.split_once(':').unwrap_or((value, ""));
                self.group = Some((name.to_owned(), limits.replace(',', "\n")));
            }
            "virtual" => self.direct = !is_yes(value).ok_or_else(|| wrong("yes or no"))?,
            "min_alloc" if value == "auto" => self.min_alloc = None,
            "min_alloc" => {
                self.min_alloc = Some(size(value).ok_or_else(|| wrong("a size such as 64K"))?);
            }
            "pool_percent" => {
                self.pool_percent = value
                    .parse()
                    .ok()
                    .filter(|percent| (5..=90).contains(percent))
                    .ok_or_else(|| wrong("a share of the budget from 5 to 90"))?;
            }
            "policy" => {
                self.policy = match value {
                    "workingset" => Policy::Workingset,
                    "fifo" => Policy::Fifo,
                    _ => return Err(wrong("workingset or fifo")),
                }
            }
            "read_ahead" => self.read_ahead = is_yes(value).ok_or_else(|| wrong("yes or no"))?,
            "tree_fd" => {
                self.tree_fd = Some(value.parse().map_err(|_| wrong("a descriptor"))?);
            }
            "tree_path" => self.tree_path = Some(value.into()),
            "events_path" => self.events_path = Some(value.into()),
            _ => return Err(ConfigError(format!("'{key}' is not a setting of vswap"))),
        }
        Ok(())
    }

    fn add_swap(&mut self, value: &str) -> Option<()> {
        match value {
            "" => return None,
            NONE => self.swap.clear(),
            _ => {
                let spec = match value.strip_prefix(SLOTS) {
                    Some("") => return None,
                    Some(file) => SwapSpec::Slots(Box::new(file_spec(file)?)),
                    None => file_spec(value)?,
                };
                self.swap.push(spec);
            }
        }
        Some(())
    }
}

/// A budget must leave room for the engine itself.
///
/// # Errors
/// A sentence with the least budget.
pub fn check_ram(bytes: u64) -> Result<(), ConfigError> {
    if bytes >= LEAST_RAM {
        return Ok(());
    }
    let (given, least) = (Bytes(bytes), Bytes(LEAST_RAM));
    Err(ConfigError(format!(
        "a budget of {given} is too small; give at least {least}"
    )))
}

fn file_spec(value: &str) -> Option<SwapSpec> {
    let spec = DeviceSpec::from_word(value);
    let is_file = spec.path != NONE && spec.check().is_ok();
    is_file.then_some(SwapSpec::Device(spec))
}

fn is_yes(value: &str) -> Option<bool> {
    match value {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn size(value: &str) -> Option<u64> {
    Bytes::parse(value).ok().map(|bytes| bytes.0)
}

fn codec(value: &str) -> Option<CodecKind> {
    match value.split_once(':') {
        None if value == "lz4" => Some(CodecKind::Lz4),
        None if value == "raw" => Some(CodecKind::Raw),
        None if value == "zstd" => Some(CodecKind::Zstd(1)),
        Some(("zstd", level)) => {
            let level = level.parse().ok()?;
            (1..=19).contains(&level).then_some(CodecKind::Zstd(level))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_everything() {
        let text = "ram=300M\nscope=space\nswap=/a/b:2G@3\nswap=auto\ncodec=zstd:3\ndedup=space\nfaults=signal\nmin_alloc=64K\npolicy=fifo";
        let config = Config::from_text(text).unwrap();
        assert_eq!(config.ram, 300 << 20);
        assert_eq!(
            config.swap,
            [
                SwapSpec::Device(DeviceSpec::from_word("/a/b:2G@3")),
                SwapSpec::Device(DeviceSpec::auto())
            ]
        );
        assert_eq!(config.codec, CodecKind::Zstd(3));
        assert_eq!(config.dedup, Dedup::Space);
        assert_eq!(config.faults, Faults::Signal);
        assert_eq!(config.min_alloc, Some(64 << 10));
        assert_eq!(config.policy, Policy::Fifo);
    }

    #[test]
    fn plain_slots_are_asked_for_before_the_file() {
        let config = Config::from_text("ram=300M\nswap=slots:auto\nswap=slots:/a:1G").unwrap();
        let slots = |file| SwapSpec::Slots(Box::new(file));
        assert_eq!(
            config.swap,
            [
                slots(SwapSpec::Device(DeviceSpec::auto())),
                slots(SwapSpec::Device(DeviceSpec::from_word("/a:1G")))
            ]
        );
        assert_eq!(config.swap[1].to_string(), "slots:/a:1073741824");
        assert!(Config::from_text("ram=300M\nswap=slots:").is_err());
    }

    #[test]
    fn the_file_without_a_name_may_have_a_size_and_no_device_none() {
        let config = Config::from_text("ram=300M\nswap=auto:400M@3\nswap=./auto").unwrap();
        let [SwapSpec::Device(sized), SwapSpec::Device(named)] = config.swap.as_slice() else {
            panic!("two devices: {:?}", config.swap);
        };
        assert!(sized.is_auto() && !named.is_auto());
        assert_eq!((sized.size, sized.priority), (Some(400 << 20), Some(3)));
        for word in ["none:400M", "none@3", "slots:none", "slots:none:400M"] {
            let error = Config::from_text(&format!("ram=300M\nswap={word}")).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn the_group_of_everything_is_a_name_and_its_limits() {
        let group = |text: &str| Config::from_text(text).unwrap().group;
        assert_eq!(group("ram=300M"), None);
        let named = |limits: &str| Some(("job".to_owned(), limits.to_owned()));
        assert_eq!(group("ram=300M\ngroup=job"), named(""));
        assert_eq!(
            group("ram=300M\ngroup=job:zswap_max=20M,writeback=off"),
            named("zswap_max=20M\nwriteback=off")
        );
    }

    #[test]
    fn without_the_virtual_layer_slots_are_all_there_is() {
        let config = Config::from_text("ram=300M\nvirtual=no\nswap=slots:auto").unwrap();
        assert!(config.direct);
        assert!(!Config::from_text("ram=300M\nvirtual=yes").unwrap().direct);
    }

    #[test]
    fn a_wrong_word_is_named_with_what_to_give() {
        for (text, word) in [
            ("ram=lots", "lots"),
            ("ram=1M", "16.0 MiB"),
            ("ram=300M\ncodec=lzma", "lzma"),
            ("ram=300M\nfaults=maybe", "maybe"),
            ("ram=300M\ndedup=always", "always"),
            ("ram=300M\nspeed=11", "speed"),
            ("ram=300M\npolicy=lru", "lru"),
            ("ram=300M\nvirtual=perhaps", "perhaps"),
            ("ram=300M\nvirtual=no", "slots:auto"),
            (
                "ram=300M\nvirtual=no\nswap=slots:auto\nswap=auto",
                "no other",
            ),
            ("ram", "ram"),
        ] {
            let error = Config::from_text(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn without_a_budget_in_the_environment_vswap_stays_off() {
        assert_eq!(Config::from_env(&|_| None).unwrap(), None);
        let on = |key: &str| (key == "VSWAP_RAM").then(|| "100M".to_string());
        let config = Config::from_env(&on).unwrap().unwrap();
        assert_eq!(config.swap, [SwapSpec::Device(DeviceSpec::auto())]);
        let off = |key: &str| match key {
            "VSWAP" => Some("off".to_string()),
            _ => Some("100M".to_string()),
        };
        assert_eq!(Config::from_env(&off).unwrap(), None);
    }
}
