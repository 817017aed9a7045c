//! Server-sent events (html.spec.whatwg.org/multipage/server-sent-events.html, "Parsing an event stream"), from
//! chunks that may be cut anywhere. Nothing here knows what the events mean.

use crate::Fault;

/// The longest event. Those of models have a few hundred bytes; only a whole answer in one event comes near.
const LONGEST_EVENT: usize = 16 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its kind; "" where the server named none.
    pub(super) name: String,
    /// What it carries.
    pub(super) data: String,
}

/// What has come of a stream and is no whole event yet.
#[derive(Debug, Default)]
pub(super) struct Stream {
    line: Vec<u8>,
    name: String,
    data: Option<String>,
    /// The last byte was a carriage return: a line feed after it ends no further line.
    after_cr: bool,
    /// The first line, which may begin with a byte order mark, is over.
    begun: bool,
}

impl Stream {
    /// The events that are whole with these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Fault> {
        let mut events = Vec::new();
        for byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                byte => self.line.push(*byte),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > LONGEST_EVENT {
                let problem = format!("an event of the stream has more than `{LONGEST_EVENT}` bytes");
                return Err(Fault::Malformed { problem });
            }
        }
        Ok(events)
    }

    /// The event at the end of the stream that no empty line followed. The standard drops it; servers that forget
    /// the line mean it.
    pub(super) fn end(&mut self) -> Result<Option<Event>, Fault> {
        let last = if self.line.is_empty() { None } else { self.end_line()? };
        Ok(last.or_else(|| self.take()))
    }

    fn end_line(&mut self) -> Result<Option<Event>, Fault> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8(line)
            .map_err(|_| Fault::Malformed { problem: "the stream is not UTF-8 text".to_owned() })?;
        let begun = std::mem::replace(&mut self.begun, true);
        let line = if begun { &line } else { line.strip_prefix('\u{feff}').unwrap_or(&line) };
        if line.is_empty() {
            return Ok(self.take());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            // llama.cpp writes an error as a field of its own.
            "error" => {
                "error".clone_into(&mut self.name);
                self.add(value);
            }
            "data" => self.add(value),
            _ => {}
        }
        Ok(None)
    }

    fn add(&mut self, value: &str) {
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => self.data = Some(value.to_owned()),
        }
    }

    fn take(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        self.data.take().map(|data| Event { name, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut stream = Stream::default();
        let mut all = Vec::new();
        for chunk in chunks {
            all.extend(stream.push(chunk).unwrap());
        }
        all.extend(stream.end().unwrap());
        all.into_iter().map(|event| (event.name, event.data)).collect()
    }

    fn pair(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn fields_lines_and_comments() {
        let text = "\u{feff}event: ping\r\ndata: {}\r\n\r\n: keep-alive\n\ndata:a\ndata: b\nid: 7\n\ndata: x\rdata\r\r";
        let expected = [pair("ping", "{}"), pair("", "a\nb"), pair("", "x\n")];
        assert_eq!(events(&[text.as_bytes()]), expected);
        assert_eq!(events(&[b"error: {\"code\":500}\n\n"]), [pair("error", "{\"code\":500}")]);
    }

    #[test]
    fn the_last_event_needs_no_empty_line() {
        assert_eq!(events(&[b"data: a\n\ndata: b"]), [pair("", "a"), pair("", "b")]);
        assert_eq!(events(&[b"data: a\n"]), [pair("", "a")]);
        assert_eq!(events(&[b"event: x\n\n", b": bye"]), []);
    }

    #[test]
    fn endless_lines_and_broken_text_are_refused() {
        let mut stream = Stream::default();
        let chunk = vec![b'x'; 1 << 20];
        let refused = (0..32).find_map(|_| stream.push(&chunk).err());
        assert!(matches!(refused, Some(Fault::Malformed { .. })));
        assert!(matches!(Stream::default().push(b"data: \xff\n"), Err(Fault::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(data in "[a-zé:\r\n ]{0,60}", at in 0usize..60) {
            let text = format!("data: {data}\n\n");
            let at = at.min(text.len());
            let bytes = text.as_bytes();
            prop_assert_eq!(events(&[bytes]), events(&[&bytes[..at], &bytes[at..]]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(events(&[bytes]), events(&single));
        }

        #[test]
        fn any_bytes_are_events_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut stream = Stream::default();
            let _ = stream.push(&bytes).and_then(|_| stream.end());
        }
    }
}
