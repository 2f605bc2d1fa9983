//! The fields of a message, looked at in place: for what comes by the hundred thousand. Whatever is
//! malformed or of a kind that is long out of use (groups) is left to the decoder, which can say
//! what is wrong.

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    /// A number or a truth value.
    Number(usize),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// Of fixed length.
    Fixed,
}

/// The next field of a message, with its number.
pub(crate) fn field<'a>(from: &mut &'a [u8]) -> Option<(usize, Field<'a>)> {
    /// The largest key that there is.
    const KEYS: usize = u32::MAX as usize;
    let key = number(from).filter(|key| (8..=KEYS).contains(key))?;
    let field = match key & 7 {
        0 => Field::Number(number(from)?),
        1 => bytes(from, 8).map(|_| Field::Fixed)?,
        2 => {
            let length = number(from)?;
            Field::Bytes(bytes(from, length)?)
        }
        5 => bytes(from, 4).map(|_| Field::Fixed)?,
        _ => return None,
    };
    Some((key >> 3, field))
}

fn number(from: &mut &[u8]) -> Option<usize> {
    prost::decode_length_delimiter(from).ok()
}

fn bytes<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_what_is_cut_short_is_none() {
        let message = [8, 150, 1, 18, 2, 7, 8, 29, 1, 2, 3, 4, 33, 1, 2, 3, 4, 5, 6, 7, 8];
        let mut from = &message[..];
        assert_eq!(field(&mut from), Some((1, Field::Number(150))));
        assert_eq!(field(&mut from), Some((2, Field::Bytes(&[7, 8]))));
        assert_eq!(field(&mut from), Some((3, Field::Fixed)));
        assert_eq!(field(&mut from), Some((4, Field::Fixed)));
        assert!(from.is_empty());
        for cut in [1, 2, 4, 6, 9, 15] {
            let mut from = &message[..cut];
            while !from.is_empty() && field(&mut from).is_some() {}
            assert!(from.len() < cut, "it came as far as it could");
            assert_eq!(field(&mut from), None, "cut to {cut}");
        }
        for bad in [&[0, 0][..], &[7, 1], &[11, 12], &[255; 11]] {
            assert_eq!(field(&mut &*bad), None, "{bad:?}");
        }
    }
}
