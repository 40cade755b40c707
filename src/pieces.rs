//! Bytes in several pieces: what is put together of others is written without being copied for that.

use std::{
    collections::{VecDeque, vec_deque},
    io::IoSlice,
    iter::{self, Chain, Once},
};

use bytes::{Buf, Bytes};

/// What is left to write of bytes that stand in one piece or in several. Clones share the bytes.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    /// Empty only if all are.
    first: Bytes,
    rest: VecDeque<Bytes>,
}

impl Pieces {
    /// Takes out the next bytes that stand together, at most `max`; `None` when nothing is left.
    pub fn next(&mut self, max: usize) -> Option<Bytes> {
        let next = self.first.split_to(self.first.len().min(max));
        self.settle();
        Some(next).filter(|next| !next.is_empty())
    }

    /// Passes over pieces that are empty.
    fn settle(&mut self) {
        while self.first.is_empty()
            && let Some(next) = self.rest.pop_front()
        {
            self.first = next;
        }
    }
}

impl<B: Into<Bytes>> From<B> for Pieces {
    fn from(whole: B) -> Self {
        Self { first: whole.into(), rest: VecDeque::new() }
    }
}

impl FromIterator<Bytes> for Pieces {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let mut all = Self { first: Bytes::new(), rest: pieces.into_iter().collect() };
        all.settle();
        all
    }
}

impl IntoIterator for Pieces {
    type Item = Bytes;
    type IntoIter = Chain<Once<Bytes>, vec_deque::IntoIter<Bytes>>;

    fn into_iter(self) -> Self::IntoIter {
        iter::once(self.first).chain(self.rest)
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    fn chunk(&self) -> &[u8] {
        &self.first
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = iter::once(&self.first).chain(&self.rest).filter(|piece| !piece.is_empty());
        let filled = slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > self.first.len() && !self.rest.is_empty() {
            count -= self.first.len();
            self.first = self.rest.pop_front().unwrap_or_default();
        }
        self.first.advance(count);
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(texts: &[&'static str]) -> Pieces {
        texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
    }

    fn rest(mut pieces: Pieces, max: usize) -> Vec<String> {
        let all = iter::from_fn(|| pieces.next(max));
        all.map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect()
    }

    #[test]
    fn what_stands_together_comes_out_together_up_to_the_most() {
        assert_eq!(rest(pieces(&["", "abcde", "", "f", ""]), 3), ["abc", "de", "f"]);
        assert!(rest(pieces(&["", ""]), 3).is_empty());
        assert!(rest(Pieces::from(Bytes::new()), 3).is_empty());
    }

    #[test]
    fn writing_goes_on_wherever_it_was_broken_off() {
        const TEXT: &str = "abcdef";
        for written in 0..=TEXT.len() {
            let mut left = pieces(&["ab", "", "c", "def"]);
            left.advance(written);
            assert_eq!((left.remaining(), left.has_remaining()), (6 - written, written < 6));
            let mut slices = [IoSlice::new(&[]); 8];
            let count = left.chunks_vectored(&mut slices);
            let shown: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(shown, &TEXT.as_bytes()[written..]);
            assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
            assert_eq!(rest(left, usize::MAX).concat(), TEXT[written..]);
        }
    }
}
