//! Error numbers of the kernel, with a name and a sentence for people.

use core::fmt;

/// An error number as the kernel returns it (positive).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($( $name:ident $sentence:literal )+) => {
        impl Errno {
            $( #[doc = $sentence] pub const $name: Self = Self(libc::$name); )+

            /// The symbolic name, or `"E?"` for one not in the table.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $( libc::$name => stringify!($name), )+
                    _ => "E?",
                }
            }

            /// What it means, in a few words.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self.0 {
                    $( libc::$name => $sentence, )+
                    _ => "unnamed kernel error",
                }
            }
        }
    };
}

errnos! {
    EPERM "not permitted"
    ENOENT "no such file or directory"
    ESRCH "no such process"
    EINTR "interrupted by a signal"
    EIO "input/output error"
    ENXIO "no such device or address"
    E2BIG "argument list too long"
    EBADF "bad file descriptor"
    ECHILD "no child process"
    EAGAIN "try again"
    ENOMEM "out of memory or address space"
    EACCES "permission denied"
    EFAULT "bad address"
    EBUSY "busy"
    EEXIST "exists already"
    EXDEV "on another file system"
    ENODEV "no such device"
    ENOTDIR "not a directory"
    EISDIR "is a directory"
    EINVAL "invalid argument"
    ENFILE "too many open files in the system"
    EMFILE "too many open files in the process"
    ENOTTY "not supported by this descriptor"
    ETXTBSY "text file busy"
    EADDRINUSE "name in use"
    ECONNREFUSED "nobody listens there"
    ECONNRESET "the other side has gone"
    ECONNABORTED "the other side went away"
    EFBIG "file too large"
    ENOSPC "no space left on the device"
    ESPIPE "cannot seek"
    EROFS "read-only file system"
    EPIPE "broken pipe"
    ERANGE "out of range"
    EDEADLK "would deadlock"
    ENAMETOOLONG "file name too long"
    ENOSYS "system call not available on this kernel"
    ELOOP "too many symbolic links"
    EOVERFLOW "value too large"
    EOPNOTSUPP "operation not supported"
    ETIMEDOUT "timed out"
    EDQUOT "disk quota exceeded"
    ESTALE "stale file handle"
    ECANCELED "canceled"
    EHWPOISON "memory page has a hardware error"
}

impl Errno {
    /// Splits a raw return value: negative values down to -4095 are errors.
    ///
    /// # Errors
    /// The error the kernel returned.
    pub const fn check(raw: isize) -> Result<usize, Self> {
        if raw < 0 && raw >= -4095 {
            Err(Self(-raw as i32))
        } else {
            Ok(raw as usize)
        }
    }

    /// As `-errno`, the form C callers of the engine get.
    #[must_use]
    pub const fn negative(self) -> isize {
        -(self.0 as isize)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "E?" => write!(f, "error {}", self.0),
            name => write!(f, "{name}: {}", self.sentence()),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({} {})", self.0, self.name())
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_its_name_and_a_sentence() {
        assert_eq!(
            Errno::ENOSPC.to_string(),
            "ENOSPC: no space left on the device"
        );
        assert_eq!(Errno(999).to_string(), "error 999");
    }

    #[test]
    fn high_addresses_are_not_errors() {
        assert_eq!(Errno::check(-12), Err(Errno::ENOMEM));
        assert_eq!(Errno::check(0x7000), Ok(0x7000));
        assert_eq!(Errno::check(-4096), Ok(-4096_isize as usize));
    }
}
