//! What may be asked: one line, a verb and its fields, a blank between each.
//!
//! ```text
//! ram 314572800
//! swapon /var/tmp/my%20swap size=2G priority=5 kind=file
//! ```
//!
//! In a field every byte that is not printable ASCII, and `%` itself, is
//! written `%XX`. Nothing is guessed: two blanks in a row, a stray byte, a
//! field too many is an error that says so.

use std::ops::RangeInclusive;

use vswap_store::device::DeviceKind;
use vswap_units::Bytes;

use crate::device_spec::DeviceSpec;

/// Bytes of a line at most: a path of 4096, every byte of it written `%XX`.
pub const LINE_MOST: usize = 16 << 10;
/// Fields behind the verb at most.
const FIELDS_MOST: usize = 4;

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Who are you?
    Hello,
    /// Another budget, in bytes.
    Ram(u64),
    /// Do all laws hold?
    Check,
    /// Which devices are on?
    Devices,
    /// One more device.
    SwapOn(DeviceSpec),
    /// Take the device at this path off.
    SwapOff(String),
    /// What do the groups hold?
    Groups,
    /// Move so many bytes of the group of a path out of compressed RAM.
    Drain(String, u64),
    /// Change limits of the group of a path: `key=value` lines.
    Limit(String, String),
    /// End what is under way; only has a meaning there.
    Cancel,
}

/// A verb, how many fields it takes, and what they mean.
struct Verb {
    name: &'static str,
    fields: RangeInclusive<usize>,
    read: fn(&[String]) -> Result<Request, String>,
}

/// The table of requests.
const VERBS: &[Verb] = &[
    Verb {
        name: "hello",
        fields: 0..=0,
        read: |_| Ok(Request::Hello),
    },
    Verb {
        name: "ping",
        fields: 0..=0,
        read: |_| Ok(Request::Hello),
    },
    Verb {
        name: "ram",
        fields: 1..=1,
        read: |fields| size(first(fields)).map(Request::Ram),
    },
    Verb {
        name: "check",
        fields: 0..=0,
        read: |_| Ok(Request::Check),
    },
    Verb {
        name: "devices",
        fields: 0..=0,
        read: |_| Ok(Request::Devices),
    },
    Verb {
        name: "swapon",
        fields: 1..=4,
        read: |fields| device(fields).map(Request::SwapOn),
    },
    Verb {
        name: "swapoff",
        fields: 1..=1,
        read: |fields| Ok(Request::SwapOff(first(fields).to_owned())),
    },
    Verb {
        name: "groups",
        fields: 0..=0,
        read: |_| Ok(Request::Groups),
    },
    Verb {
        name: "drain",
        fields: 2..=2,
        read: |fields| {
            let (path, bytes) = fields.split_at(1);
            Ok(Request::Drain(first(path).to_owned(), size(first(bytes))?))
        },
    },
    Verb {
        name: "limit",
        fields: 2..=2,
        read: |fields| {
            let (path, limits) = fields.split_at(1);
            Ok(Request::Limit(
                first(path).to_owned(),
                first(limits).to_owned(),
            ))
        },
    },
    Verb {
        name: "cancel",
        fields: 0..=0,
        read: |_| Ok(Request::Cancel),
    },
];

impl Request {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        if line.len() > LINE_MOST {
            return Err(too_long());
        }
        let mut words = line.split(|byte| *byte == b' ');
        let name = field(words.next().unwrap_or_default())?;
        let verb = VERBS.iter().find(|verb| verb.name == name);
        let verb = verb.ok_or_else(|| format!("'{}' is no request", short(&name)))?;
        let mut fields = Vec::with_capacity(FIELDS_MOST);
        for word in words {
            fields.push(field(word)?);
            if fields.len() > FIELDS_MOST {
                break;
            }
        }
        if !verb.fields.contains(&fields.len()) {
            let (least, most) = verb.fields.clone().into_inner();
            return Err(format!("'{name}' takes {least} to {most} fields"));
        }
        (verb.read)(&fields)
    }
}

/// For a line that does not end.
pub fn too_long() -> String {
    format!("a request has at most {LINE_MOST} bytes")
}

fn size(text: &str) -> Result<u64, String> {
    let size = Bytes::parse(text).map_err(|error| format!("'{}': {error}", short(text)))?;
    Ok(size.0)
}

/// A device: its path, then `size=`, `priority=` and `kind=` in any order.
fn device(fields: &[String]) -> Result<DeviceSpec, String> {
    let mut spec = DeviceSpec {
        path: first(fields).to_owned(),
        ..DeviceSpec::default()
    };
    if !(spec.path.starts_with('/') || spec.is_auto()) {
        return Err("the path of a swap device begins with '/', or it is 'auto'".into());
    }
    for option in fields.iter().skip(1) {
        let wrong = || format!("'{}' is no size=, priority= or kind=", short(option));
        let (key, value) = option.split_once('=').ok_or_else(wrong)?;
        match key {
            "size" => spec.size = Some(size(value)?),
            "priority" => spec.priority = Some(value.parse().map_err(|_| wrong())?),
            "kind" => spec.kind = Some(DeviceKind::from_name(value).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        }
    }
    Ok(spec)
}

fn first(fields: &[String]) -> &str {
    fields.first().map_or("", String::as_str)
}

/// A field as it was before it was written for the line.
fn field(word: &[u8]) -> Result<String, String> {
    if word.is_empty() {
        return Err("a request is words with one blank between them".into());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => {
                let [high, low, tail @ ..] = rest else {
                    return Err("a '%' in a request is followed by two hexadecimal digits".into());
                };
                bytes.push(escaped(*high, *low)?);
                rest = tail;
            }
            b'!'..=b'~' => bytes.push(byte),
            _ => return Err(format!("byte {byte:#04x} in a request is written as %XX")),
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| "a request is UTF-8".to_owned())?;
    if text.contains('\0') {
        return Err("a request has no zero bytes".into());
    }
    Ok(text)
}

fn escaped(high: u8, low: u8) -> Result<u8, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digit(high)
        .zip(digit(low))
        .map(|(high, low)| (high * 16 + low) as u8)
        .ok_or_else(|| "a '%' in a request is followed by two hexadecimal digits".into())
}

/// The beginning of a text, for a sentence about it.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(line: &[u8]) -> String {
        Request::parse(line).unwrap_err()
    }

    #[test]
    fn every_verb_is_read() {
        assert_eq!(Request::parse(b"hello"), Ok(Request::Hello));
        assert_eq!(Request::parse(b"ping"), Ok(Request::Hello));
        assert_eq!(Request::parse(b"check"), Ok(Request::Check));
        assert_eq!(Request::parse(b"cancel"), Ok(Request::Cancel));
        assert_eq!(Request::parse(b"groups"), Ok(Request::Groups));
        let drain = Request::Drain("web/my cache".into(), 10 << 20);
        assert_eq!(Request::parse(b"drain web/my%20cache 10M"), Ok(drain));
        assert_eq!(Request::parse(b"ram 300M"), Ok(Request::Ram(300 << 20)));
        assert_eq!(
            Request::parse(b"ram 300%20MiB"),
            Ok(Request::Ram(300 << 20))
        );
    }

    #[test]
    fn what_is_no_request_is_named() {
        assert!(error(b"").contains("words"));
        assert!(error(b"Hello").contains("'Hello'"));
        assert!(error(b"format /dev/sda").contains("'format'"));
        assert!(error(&[b'x'; 3000]).len() < 100);
        assert!(error(b"ram").contains("takes 1 to 1"));
        assert!(error(b"ram 1 2").contains("takes 1 to 1"));
        assert!(error(b"check all").contains("takes 0 to 0"));
        assert!(error(b"swapon /a size=1 kind=file priority=1 size=2").contains("takes 1 to 4"));
        assert!(error(b"ram lots").contains("'lots'"));
        assert!(error(b"ram 99999999999T").contains("64 bits"));
    }

    #[test]
    fn a_device_is_a_path_and_what_it_shall_be() {
        let spec = DeviceSpec {
            path: "/a b:2G".into(),
            ..DeviceSpec::default()
        };
        let read = Request::parse(b"swapon /a%20b:2G");
        assert_eq!(read, Ok(Request::SwapOn(spec.clone())));
        let spec = DeviceSpec {
            size: Some(2 << 30),
            priority: Some(-7),
            kind: Some(DeviceKind::Block),
            ..spec
        };
        let read = Request::parse(b"swapon /a%20b:2G kind=block priority=-7 size=2G");
        assert_eq!(read, Ok(Request::SwapOn(spec)));
        let off = Request::parse(b"swapoff /a%20b%0A");
        assert_eq!(off, Ok(Request::SwapOff("/a b\n".into())));
        assert_eq!(Request::parse(b"devices"), Ok(Request::Devices));
        for line in [
            &b"swapon /a kind=tape"[..],
            b"swapon /a kind",
            b"swapon /a priority=1.5",
            b"swapon /a speed=11",
            b"swapon /a =",
        ] {
            assert!(error(line).contains("no size="), "{line:?}");
        }
        assert!(Request::parse(b"swapon auto size=2G").is_ok());
        let limit = Request::Limit("web".into(), "zswap_max=1\nwriteback=on".into());
        assert_eq!(
            Request::parse(b"limit web zswap_max=1%0Awriteback=on"),
            Ok(limit)
        );
        assert!(error(b"swapon a").contains("begins with"));
        assert!(error(b"swapon /a size=x").contains("'x'"));
    }

    #[test]
    fn blanks_and_bytes_are_taken_literally() {
        for line in [&b" ping"[..], b"ping ", b"ram  300M", b" "] {
            assert!(error(line).contains("one blank"), "{line:?}");
        }
        for line in [&b"ping\r"[..], b"ping\0", b"ram\t300M", b"ram 3\xff"] {
            assert!(error(line).contains("%XX"), "{line:?}");
        }
        for line in [&b"ram %"[..], b"ram %3", b"ram %zz", b"ram %+1"] {
            assert!(error(line).contains("hexadecimal"), "{line:?}");
        }
        assert!(error(b"ram %ff").contains("UTF-8"));
        assert!(error(b"ram 3%00").contains("zero"));
        assert!(error(&vec![b'r'; LINE_MOST + 1]).contains("at most"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_in_one_sentence(line in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(sentence) = Request::parse(&line) {
                prop_assert!(!sentence.is_empty() && sentence.len() < 200);
            }
        }

        #[test]
        fn any_fields_behind_a_verb_are_read_or_refused(
            verb in 0..VERBS.len(), tail in "[ -~]{0,60}"
        ) {
            let line = format!("{} {tail}", VERBS[verb].name);
            let _ = Request::parse(line.as_bytes());
        }
    }
}
