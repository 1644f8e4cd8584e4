//! Bytes to bounded lines: what a process writes arrives in pieces of any size and leaves as lines of at most a fixed length.

use memchr::memchr;

/// The longest line of process output that is kept whole, in bytes. A longer one is told in pieces of this size.
pub const LINE_MAX: usize = 16 * 1024;

/// A line, or a piece of one, without its delimiter. The bytes are passed on as they came, UTF-8 or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub bytes: &'a [u8],
    pub end: LineEnd,
}

/// Where a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineEnd {
    /// At its delimiter.
    Whole,
    /// At the limit: the line goes on in the next piece.
    Split,
    /// At the end of the input, without a delimiter.
    Partial,
}

/// Cuts a stream of bytes into lines.
///
/// Call `feed` with each piece of input and `Lines::next_line` until it gives `None`; at the end of the input call `finish` once.
/// The lines do not depend on how the input was cut into pieces. No more than one limit of bytes is held between
/// two calls, and a line that lies within one piece is lent from it without a copy.
#[derive(Debug)]
pub struct Splitter {
    delimiter: u8,
    limit: usize,
    /// The beginning of a line whose delimiter has not come yet; at most `limit` bytes.
    held: Vec<u8>,
    /// `held` was lent to the caller as a line and is over with the next call.
    lent: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Splitter {
    /// Lines that end in a newline, of at most `LINE_MAX` bytes.
    pub fn new() -> Self {
        Self::with(b'\n', LINE_MAX)
    }

    /// Lines that end in `delimiter`, of at most `limit` bytes; a limit of zero counts as one.
    pub fn with(delimiter: u8, limit: usize) -> Self {
        Self { delimiter, limit: limit.max(1), held: Vec::new(), lent: false }
    }

    /// Takes the next piece of input. What is not asked for with `next_line` is lost.
    #[must_use = "the lines, and the bytes after the last of them, are taken by `next_line`"]
    pub fn feed<'a>(&'a mut self, bytes: &'a [u8]) -> Lines<'a> {
        Lines { splitter: self, rest: bytes }
    }

    /// The rest after the last delimiter, if there is any; the splitter is as new afterwards.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        self.forget_lent();
        if self.held.is_empty() {
            return None;
        }
        self.lent = true;
        Some(Line { bytes: &self.held, end: LineEnd::Partial })
    }

    fn forget_lent(&mut self) {
        if self.lent {
            self.held.clear();
            self.lent = false;
        }
    }
}

/// The lines that one piece of input completes.
#[derive(Debug)]
pub struct Lines<'a> {
    splitter: &'a mut Splitter,
    rest: &'a [u8],
}

impl Lines<'_> {
    /// The next line; `None` once the rest of the input is kept for the line that it begins.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        let splitter = &mut *self.splitter;
        splitter.forget_lent();
        let room = splitter.limit - splitter.held.len();
        // One byte more than there is room for: after a line of full length it may be the delimiter.
        let window = &self.rest[..self.rest.len().min(room.saturating_add(1))];
        let (taken, next, end) = match memchr(splitter.delimiter, window) {
            Some(at) => (at, at + 1, LineEnd::Whole),
            None if window.len() > room => (room, room, LineEnd::Split),
            None => {
                splitter.held.extend_from_slice(window);
                self.rest = &[];
                return None;
            }
        };
        let bytes = &self.rest[..taken];
        self.rest = &self.rest[next..];
        if splitter.held.is_empty() {
            return Some(Line { bytes, end });
        }
        splitter.held.extend_from_slice(bytes);
        splitter.lent = true;
        Some(Line { bytes: &splitter.held, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = (Vec<u8>, LineEnd);

    /// All lines of an input that arrives in these pieces.
    fn split<'a>(mut splitter: Splitter, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Owned> {
        let mut all = Vec::new();
        for piece in pieces {
            let mut lines = splitter.feed(piece);
            while let Some(line) = lines.next_line() {
                all.push((line.bytes.to_vec(), line.end));
            }
            assert!(splitter.held.len() <= splitter.limit);
            assert!(splitter.held.capacity() <= 2 * splitter.limit.max(8));
        }
        all.extend(splitter.finish().map(|line| (line.bytes.to_vec(), line.end)));
        assert_eq!(splitter.finish(), None, "the rest is told once");
        all
    }

    /// The input again, from its lines.
    fn joined(lines: &[Owned], delimiter: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (line, end) in lines {
            bytes.extend_from_slice(line);
            bytes.extend((*end == LineEnd::Whole).then_some(delimiter));
        }
        bytes
    }

    /// A generator of numbers that a seed determines (splitmix64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % bound as u64) as usize
        }
    }

    fn whole(text: &str) -> Owned {
        (text.into(), LineEnd::Whole)
    }

    #[test]
    fn lines_come_whole_and_the_rest_is_partial() {
        let expected = [whole("one"), whole(""), whole("two"), (b"rest".to_vec(), LineEnd::Partial)];
        assert_eq!(split(Splitter::new(), [&b"one\n\ntwo\nrest"[..]]), expected);
        assert_eq!(split(Splitter::new(), [&b"on"[..], b"e\n", b"", b"\ntwo", b"\nre", b"st"]), expected);
        assert_eq!(split(Splitter::new(), [&b""[..]]), []);
        assert_eq!(split(Splitter::new(), [&b"one\n"[..]]), [whole("one")]);
        assert_eq!(split(Splitter::with(0, 10), [&b"a\nb\0c\0"[..]]), [whole("a\nb"), whole("c")]);
    }

    #[test]
    fn a_line_within_one_piece_is_lent_and_not_copied() {
        let input = b"begin\nmiddle\nend";
        let mut splitter = Splitter::new();
        let mut lines = splitter.feed(input);
        assert!(input.as_ptr_range().contains(&lines.next_line().unwrap().bytes.as_ptr()));
        assert!(input.as_ptr_range().contains(&lines.next_line().unwrap().bytes.as_ptr()));
        assert_eq!(lines.next_line(), None);
    }

    #[test]
    fn a_line_at_the_bound_is_whole_and_one_byte_more_splits_it() {
        for (length, pieces) in
            [(LINE_MAX - 1, 1), (LINE_MAX, 1), (LINE_MAX + 1, 2), (2 * LINE_MAX, 2), (2 * LINE_MAX + 1, 3)]
        {
            let mut input = vec![b'x'; length];
            let unended = split(Splitter::new(), [&input[..]]);
            input.push(b'\n');
            let ended = split(Splitter::new(), [&input[..]]);
            for (lines, last) in [(&unended, LineEnd::Partial), (&ended, LineEnd::Whole)] {
                assert_eq!(lines.len(), pieces, "{length}");
                assert_eq!(lines[pieces - 1].1, last);
                assert!(lines[..pieces - 1].iter().all(|(line, end)| line.len() == LINE_MAX && *end == LineEnd::Split));
                assert_eq!(lines.iter().map(|(line, _)| line.len()).sum::<usize>(), length);
            }
        }
    }

    #[test]
    fn how_the_input_is_cut_changes_nothing_and_no_byte_is_lost() {
        for seed in 0..2_000 {
            let mut random = Random(seed);
            let limit = 1 + random.below(12);
            let density = 1 + random.below(12);
            // Every value of a byte, among them what is no UTF-8.
            let bytes = |random: &mut Random| if random.below(density) == 0 { b'\n' } else { random.below(256) as u8 };
            let input: Vec<u8> = (0..random.below(200)).map(|_| bytes(&mut random)).collect();
            let at_once = split(Splitter::with(b'\n', limit), [&input[..]]);
            let byte_by_byte = split(Splitter::with(b'\n', limit), input.chunks(1));
            assert_eq!(at_once, byte_by_byte, "seed {seed}");
            let size = 1 + random.below(30);
            assert_eq!(at_once, split(Splitter::with(b'\n', limit), input.chunks(size)), "seed {seed}");
            assert_eq!(joined(&at_once, b'\n'), input, "seed {seed}");
            assert!(at_once.iter().all(|(line, _)| line.len() <= limit && !line.contains(&b'\n')), "seed {seed}");
        }
    }

    #[test]
    fn a_limit_of_zero_still_makes_progress() {
        let pieces = split(Splitter::with(b'\n', 0), [&b"ab\n"[..]]);
        assert_eq!(pieces, [(b"a".to_vec(), LineEnd::Split), whole("b")]);
    }
}
