//! The devices as JSON, for those who are not Rust.

use std::fmt::Write as _;

use vswap_store::device::{DeviceInfo, DeviceState};

/// A list of objects, one per device. Sizes are in bytes.
#[must_use]
pub fn devices_json(devices: &[DeviceInfo]) -> String {
    let mut text = String::from("[");
    for (index, device) in devices.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_one(&mut text, device);
    }
    text.push(']');
    text
}

fn write_one(text: &mut String, device: &DeviceInfo) {
    text.push_str(r#"{"path":"#);
    write_text(text, &device.name);
    let error = match device.state {
        DeviceState::Failed(errno) => errno.0,
        DeviceState::On | DeviceState::Draining => 0,
    };
    let _ = write!(
        text,
        concat!(
            r#","kind":"{}","priority":{},"state":"{}","error":{},"capacity_bytes":{},"used_bytes":{},"#,
            r#""written_bytes":{},"read_bytes":{},"writes":{},"sequential_writes":{},"discards":{},"errors":{}}}"#
        ),
        device.kind,
        device.priority,
        device.state.name(),
        error,
        device.capacity.0,
        device.used.0,
        device.written.0,
        device.read.0,
        device.writes,
        device.sequential_writes,
        device.discards,
        device.errors,
    );
}

fn write_text(text: &mut String, value: &str) {
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            control if control < ' ' => {
                let _ = write!(text, "\\u{:04x}", u32::from(control));
            }
            plain => text.push(plain),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_quotes_stays_one_text() {
        let mut text = String::new();
        write_text(&mut text, "/a\"b\\c\nd\u{e9}");
        assert_eq!(text, "\"/a\\\"b\\\\c\\u000ad\u{e9}\"");
    }
}
