//! Why no userfaultfd could be had, as one sentence that names the cure.

use core::fmt;

use crate::errno::Errno;

/// Why no userfaultfd could be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// The kernel has no userfaultfd, or a sandbox hides it.
    Missing,
    /// The kernel has it but not for this process.
    NotPermitted,
    /// This kernel's userfaultfd cannot raise SIGBUS.
    NoSigbus,
    /// Something else; the number says what.
    Other(Errno),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Missing => f.write_str(
                "this kernel or sandbox has no userfaultfd; use a kernel with CONFIG_USERFAULTFD \
                 and a seccomp profile that allows the userfaultfd system call",
            ),
            OpenError::NotPermitted => f.write_str(
                "userfaultfd is not permitted; give the process CAP_SYS_PTRACE, or make \
                 /dev/userfaultfd readable and writable for it, or set \
                 vm.unprivileged_userfaultfd=1",
            ),
            OpenError::NoSigbus => f.write_str(
                "this kernel's userfaultfd cannot deliver faults as signals; use Linux 4.14 or later",
            ),
            OpenError::Other(errno) => write!(f, "userfaultfd cannot be opened: {errno}"),
        }
    }
}

impl core::error::Error for OpenError {}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> OpenError {
        match errno {
            Errno::ENOSYS | Errno::EINVAL => OpenError::Missing,
            Errno::EPERM | Errno::EACCES => OpenError::NotPermitted,
            other => OpenError::Other(other),
        }
    }
}
