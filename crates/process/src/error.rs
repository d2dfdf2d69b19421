//! Why an engine cannot start.

use std::fmt;

use vswap_platform::errno::Errno;
use vswap_platform::uffd::OpenError;

use crate::config::ConfigError;
use crate::device_spec::DeviceError;
use crate::groups::GroupError;

/// Why an engine could not start; displays as one sentence that says what to do.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is not usable.
    Config(ConfigError),
    /// No userfaultfd.
    Userfaultfd(OpenError),
    /// There is no MOVE, and what takes its place does not work.
    NoWayOut(Errno),
    /// A swap file cannot be used.
    Device(DeviceError),
    /// The group of all memory cannot be made.
    Group(GroupError),
    /// No thread could be started.
    Thread(Errno),
    /// Not enough address space or memory for the engine's own tables.
    Memory(Errno),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Userfaultfd(error) => error.fmt(f),
            Self::NoWayOut(error) => write!(
                f,
                "this kernel has no UFFDIO_MOVE (Linux 6.8), and whether a device still writes to a page cannot be told here ({error}); use Linux 6.8 or newer, or allow mremap and mbind (docker run --cap-add SYS_NICE ...)"
            ),
            Self::Device(error) => error.fmt(f),
            Self::Group(error) => write!(f, "the group of this program: {error}"),
            Self::Thread(error) => write!(
                f,
                "no thread could be started ({error}); raise RLIMIT_NPROC or the cgroup's pids.max"
            ),
            Self::Memory(error) => write!(
                f,
                "no address space for the managed range ({error}); raise 'ulimit -v' or turn strict overcommit off"
            ),
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
