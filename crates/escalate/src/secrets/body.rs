//! The strings of a JSON text with their places, read byte by byte, so that nothing is left out: not a key that comes
//! twice, not the part before an error.

/// A string, unescaped.
pub(crate) struct Text {
    /// Where it stands, such as `messages[1].content`; a key has the place of its object.
    pub(crate) place: String,
    /// Its name, if it is the value of one or in a list that is; of a long name the beginning.
    pub(crate) name: Option<String>,
    /// What it says.
    pub(crate) text: Vec<u8>,
}

/// What encloses a place.
enum Frame {
    Array(usize),
    Object(String),
}

/// All strings; None if a string does not end, so the text is no JSON.
pub(crate) fn strings(json: &[u8]) -> Option<Vec<Text>> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => {
                let end = end_of_string(json, at + 1)?;
                let text = super::decode::unescaped(&json[at + 1..end]);
                let text = text.unwrap_or_else(|| json[at + 1..end].to_vec());
                at = end;
                let next = json[end + 1..].iter().find(|byte| !byte.is_ascii_whitespace());
                let name = match (frames.last_mut(), next) {
                    (Some(Frame::Object(key)), Some(b':')) => {
                        *key = String::from_utf8_lossy(&text).chars().take(80).collect();
                        None
                    }
                    _ => frames.iter().rev().find_map(|frame| match frame {
                        Frame::Object(key) => Some(key.clone()),
                        Frame::Array(_) => None,
                    }),
                };
                found.push(Text { place: place(&frames), name, text });
            }
            b'{' => frames.push(Frame::Object(String::new())),
            b'[' => frames.push(Frame::Array(0)),
            b'}' | b']' => drop(frames.pop()),
            b',' => {
                if let Some(Frame::Array(index)) = frames.last_mut() {
                    *index += 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    Some(found)
}

fn end_of_string(json: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < json.len() {
        match json[at] {
            b'\\' => at += 1,
            b'"' => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The place that these frames make; of deep ones the first steps.
fn place(frames: &[Frame]) -> String {
    let mut place = String::new();
    for frame in frames.iter().take(12) {
        match frame {
            Frame::Array(index) => place += &format!("[{index}]"),
            Frame::Object(key) if place.is_empty() => place += key,
            Frame::Object(key) => place += &format!(".{key}"),
        }
    }
    if place.is_empty() { "body".to_owned() } else { place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_have_their_places() {
        let json = br#"{"model": "m", "messages": [{"role": "user", "content": "a\n\"b\""}, {"content": "c"}], "n": 1}"#;
        let found: Vec<(String, String)> = strings(json)
            .unwrap()
            .into_iter()
            .map(|text| (text.place, String::from_utf8(text.text).unwrap()))
            .collect();
        let has = |place: &str, text: &str| found.contains(&(place.to_owned(), text.to_owned()));
        assert!(
            has("model", "m") && has("messages[0].content", "a\n\"b\"") && has("messages[1].content", "c")
        );
        let named = strings(json).unwrap().into_iter().filter_map(|text| text.name).collect::<Vec<_>>();
        assert_eq!(named, ["model", "role", "content", "content"]);
        let listed = strings(br#"{"keys": ["a", ["b"], {"c": "d"}, "e"]}"#).unwrap();
        let named: Vec<_> = listed.into_iter().filter_map(|text| text.name).collect();
        assert_eq!(named, ["keys", "keys", "c", "keys"]);
        assert!(strings(br#"["a"]"#).unwrap()[0].name.is_none());
        assert!(strings(br#"{"a": "b"#).is_none() && strings(br#""\""#).is_none());
        assert!(strings(b"]]}}{{").unwrap().is_empty());
    }
}
