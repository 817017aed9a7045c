//! Streaming text: token bytes in, whole characters out, stop strings honoured.
//!
//! Owns the bytes that are not yet a character and the characters that may be the beginning of a stop string.
//! It knows nothing of tokens.

use crate::{Error, Result};

/// Turns the bytes of tokens into text that can be shown at once.
///
/// - No piece splits a character. Invalid bytes become U+FFFD exactly where [`String::from_utf8_lossy`] of all bytes
///   together would put it.
/// - Text that may be the beginning of a stop string waits until it is certain.
/// - The stop string that is complete first wins, the longest if several end together. Text before it is given out,
///   the stop string and everything after it are not. How the bytes were split into pushes makes no difference.
#[derive(Debug, Clone)]
pub struct TextStream {
    stops: Vec<String>,
    /// Bytes that may still become one character: at most 3.
    pending: Vec<u8>,
    /// Text that may be the beginning of a stop string: shorter than the longest of them.
    held: String,
    stopped: Option<usize>,
}

impl TextStream {
    /// A stream that ends at the first of `stops`; none is fine.
    ///
    /// # Errors
    /// [`Error::Request`] when a stop string is empty: it would match everywhere.
    pub fn new(stops: &[String]) -> Result<Self> {
        if stops.iter().any(String::is_empty) {
            let problem = "a stop string is empty; leave it out".to_owned();
            return Err(Error::Request { field: "stop", problem });
        }
        Ok(Self { stops: stops.to_vec(), pending: Vec::new(), held: String::new(), stopped: None })
    }

    /// Takes the bytes of the next token and gives out the text that is certain now, which may be empty.
    /// After a stop string it gives out nothing.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        self.pending.extend_from_slice(bytes);
        self.decode();
        self.release(false)
    }

    /// Gives out what was waiting: no more bytes will come.
    pub fn finish(&mut self) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        if !self.pending.is_empty() {
            self.pending.clear();
            self.held.push(char::REPLACEMENT_CHARACTER);
        }
        self.release(true)
    }

    /// The stop string that ended the text, if one did.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.map(|i| self.stops[i].as_str())
    }

    /// Moves whole characters from `pending` to `held`.
    fn decode(&mut self) {
        let mut at = 0;
        loop {
            let error = match std::str::from_utf8(&self.pending[at..]) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.pending.clear();
                    return;
                }
                Err(error) => error,
            };
            let valid = at + error.valid_up_to();
            // The part before the error is valid, so nothing is lost or replaced here.
            self.held.push_str(&String::from_utf8_lossy(&self.pending[at..valid]));
            match error.error_len() {
                Some(len) => {
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    at = valid + len;
                }
                None => {
                    self.pending.drain(..valid);
                    return;
                }
            }
        }
    }

    /// Takes from `held` what can be given out; at the end, everything before a stop string.
    fn release(&mut self, end: bool) -> String {
        let first = self.stops.iter().enumerate().filter_map(|(i, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, i))
        });
        if let Some((_, start, i)) = first.min() {
            self.stopped = Some(i);
            self.pending.clear();
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return text;
        }
        let keep = if end { 0 } else { self.partial_stop() };
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Bytes at the end of `held` that are the beginning of a stop string: the longest such end.
    fn partial_stop(&self) -> usize {
        let partial = |stop: &String| {
            let longest = self.held.len().min(stop.len() - 1);
            (1..=longest).rev().find(|&n| self.held.as_bytes().ends_with(&stop.as_bytes()[..n]))
        };
        // A match that begins inside a character is impossible: both sides are valid UTF-8, and a stop string
        // begins with a first byte.
        self.stops.iter().filter_map(partial).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
