//! The little of STUN (RFC 8489) that says whose packet it is.

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const USERNAME: [u8; 2] = [0x00, 0x06];

/// Our user name fragment in a connectivity check (RFC 8445, section 7.2.2): the part of USERNAME before the colon.
/// `None` for every other packet.
pub fn checked_fragment(packet: &[u8]) -> Option<&str> {
    let (header, attributes) = packet.split_at_checked(HEADER_BYTES)?;
    if header.get(..2)? != BINDING_REQUEST || header.get(4..8)? != MAGIC_COOKIE {
        return None;
    }
    let mut rest = attributes;
    while let &[k0, k1, l0, l1, ref after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = after.get(..length)?;
        if [k0, k1] == USERNAME {
            let name = std::str::from_utf8(value).ok()?;
            return name.split_once(':').map(|(ours, _)| ours);
        }
        // Attributes are padded to four bytes.
        rest = after.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0, 1, 0, 0];
        packet.extend(MAGIC_COOKIE);
        packet.extend([7; 12]);
        for (kind, value) in attributes {
            packet.extend(kind.to_be_bytes());
            packet.extend((value.len() as u16).to_be_bytes());
            packet.extend(*value);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    #[test]
    fn a_check_names_the_peer_it_is_for() {
        let check = request(&[(0x8022, b"agent"), (6, b"OURS:theirs"), (0x24, &[0; 4])]);
        assert_eq!(checked_fragment(&check), Some("OURS"));
        let mut answer = check.clone();
        answer[0] = 1;
        assert_eq!(checked_fragment(&answer), None);
        assert_eq!(checked_fragment(&request(&[(6, b"no colon")])), None);
        assert_eq!(checked_fragment(&[0x80; 172]), None);
    }

    proptest! {
        #[test]
        fn no_packet_upsets_it(rest: Vec<u8>, cut in 0_usize..64) {
            checked_fragment(&rest);
            let mut packet = request(&[(0x8022, &[1; 3]), (6, b"a:b")]);
            packet.truncate(cut);
            packet.extend(rest);
            checked_fragment(&packet);
        }
    }
}
