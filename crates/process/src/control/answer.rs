//! Answers: lines of JSON. Any number of `{"progress": ...}`, then one line
//! with `"ok"`, which ends the answer.

use std::fmt;

/// What a JSON text is made of here: numbers are whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Json {
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(i128),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// Names and values, in this order.
    Object(Vec<(&'static str, Json)>),
    /// JSON that was written elsewhere, in one line.
    Raw(String),
}

impl Json {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number.
    pub fn number(number: impl Into<i128>) -> Self {
        Self::Number(number.into())
    }
}

/// The last line of an answer that gives what was asked for.
pub fn done(result: Json) -> String {
    line(vec![("ok", Json::Flag(true)), ("result", result)])
}

/// The last line of an answer that refuses, with the reason as a sentence.
pub fn refused(sentence: &str) -> String {
    line(vec![
        ("ok", Json::Flag(false)),
        ("error", Json::text(sentence)),
    ])
}

/// A line on the way.
pub fn progress(done_bytes: u64, total_bytes: u64) -> String {
    let both = vec![
        ("done_bytes", Json::number(done_bytes)),
        ("total_bytes", Json::number(total_bytes)),
    ];
    line(vec![("progress", Json::Object(both))])
}

fn line(members: Vec<(&'static str, Json)>) -> String {
    let mut line = Json::Object(members).to_string();
    line.push('\n');
    line
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write_text(f, text),
            Self::Raw(text) => f.write_str(text),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (name, value)) in members.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    write_text(f, name)?;
                    f.write_str(":")?;
                    value.fmt(f)?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for letter in text.chars() {
        match letter {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            letter if (letter as u32) < 0x20 => write!(f, "\\u{:04x}", letter as u32)?,
            letter => write!(f, "{letter}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line_whatever_is_in_it() {
        let told = Json::Object(vec![
            ("path", Json::text("/tmp/a \"b\"\\\n\u{1}é")),
            (
                "sizes",
                Json::List(vec![Json::number(1_u64), Json::number(-2)]),
            ),
            ("none", Json::List(vec![])),
        ]);
        let line = done(told);
        assert_eq!(
            line,
            "{\"ok\":true,\"result\":{\"path\":\"/tmp/a \\\"b\\\"\\\\\\n\\u0001é\",\"sizes\":[1,-2],\"none\":[]}}\n"
        );
        assert_eq!(
            refused("no\nroom"),
            "{\"ok\":false,\"error\":\"no\\nroom\"}\n"
        );
        assert_eq!(
            progress(1, u64::MAX),
            "{\"progress\":{\"done_bytes\":1,\"total_bytes\":18446744073709551615}}\n"
        );
    }
}
