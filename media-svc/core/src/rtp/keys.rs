//! Telephone keys as named events (RFC 4733).

/// Reads the keys of one stream.
#[derive(Debug, Default)]
pub struct KeyReader {
    last: Option<Event>,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    code: u8,
    timestamp: u32,
    duration: u16,
    ended: bool,
}

impl KeyReader {
    /// The key that a payload begins, once per press: an event is sent in many packets with one timestamp, its end
    /// three times, and a very long one in segments (section 2.5.1.3).
    pub fn read(&mut self, timestamp: u32, payload: &[u8]) -> Option<char> {
        let &[code, flags, high, low, ..] = payload else {
            return None;
        };
        let key = match code {
            0..=9 => char::from(b'0' + code),
            10 => '*',
            11 => '#',
            12..=15 => char::from(b'A' + (code - 12)),
            _ => return None,
        };
        let event = Event {
            code,
            timestamp,
            duration: u16::from_be_bytes([high, low]),
            ended: flags & 0x80 != 0,
        };
        match self.last {
            // A packet that was overtaken says nothing new.
            Some(last) if last.timestamp.wrapping_sub(timestamp) < 1 << 31 => {
                if last.timestamp == timestamp {
                    self.last = Some(Event {
                        duration: last.duration.max(event.duration),
                        ended: last.ended || event.ended,
                        ..event
                    });
                }
                None
            }
            Some(last) if last.continues_with(&event) => {
                self.last = Some(event);
                None
            }
            Some(_) | None => {
                self.last = Some(event);
                Some(key)
            }
        }
    }
}

impl Event {
    fn continues_with(&self, next: &Self) -> bool {
        let end = self.timestamp.wrapping_add(u32::from(self.duration));
        !self.ended && self.duration == u16::MAX && self.code == next.code && end == next.timestamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(code: u8, ended: bool, duration: u16) -> [u8; 4] {
        let [high, low] = duration.to_be_bytes();
        [code, 10 | u8::from(ended) << 7, high, low]
    }

    #[test]
    fn a_key_is_reported_once_however_often_its_event_is_sent() {
        let mut reader = KeyReader::default();
        let packets = [
            (false, 160),
            (false, 320),
            (false, 480),
            (true, 640),
            (true, 640),
            (true, 640),
        ];
        let keys: Vec<char> = packets
            .iter()
            .filter_map(|&(ended, duration)| reader.read(1_000, &payload(5, ended, duration)))
            .collect();
        assert_eq!(keys, ['5']);
    }

    #[test]
    fn the_same_key_pressed_again_is_reported_again() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.read(1_000, &payload(1, true, 800)), Some('1'));
        assert_eq!(reader.read(9_000, &payload(1, false, 160)), Some('1'));
    }

    #[test]
    fn a_key_whose_beginning_was_lost_is_reported_by_its_end() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.read(1_000, &payload(11, true, 800)), Some('#'));
    }

    #[test]
    fn an_event_in_segments_is_one_key() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.read(1_000, &payload(10, false, u16::MAX)), Some('*'));
        assert_eq!(reader.read(1_000 + 65_535, &payload(10, false, 160)), None);
        assert_eq!(reader.read(1_000 + 65_535, &payload(10, true, 960)), None);
    }

    #[test]
    fn only_telephone_keys_are_keys() {
        let mut reader = KeyReader::default();
        let keys: String = (0..=255_u8)
            .filter_map(|code| reader.read(u32::from(code) * 8_000, &payload(code, true, 800)))
            .collect();
        assert_eq!(keys, "0123456789*#ABCD");
    }

    proptest! {
        #[test]
        fn no_payload_upsets_it(packets: Vec<(u32, Vec<u8>)>) {
            let mut reader = KeyReader::default();
            for (timestamp, payload) in packets {
                reader.read(timestamp, &payload);
            }
        }
    }
}
