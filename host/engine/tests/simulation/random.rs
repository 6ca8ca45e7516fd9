//! The only source of chance: a seed says everything that happens.

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Uniform in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("an index is below a length, which is a usize")
    }

    /// True once in `every` times; never where that is 0.
    pub fn one_in(&mut self, every: u64) -> bool {
        every != 0 && self.below(every) == 0
    }

    /// Uniform in 0.0..1.0.
    pub fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.below(1 << 20)).expect("20 bits fit")) / f64::from(1_u32 << 20)
    }
}

fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Stands for SHA-256: different content has different digests here.
pub fn digest(content: impl IntoIterator<Item = u64>) -> u64 {
    content.into_iter().fold(0x1234_5678, |digest, word| mix(digest.rotate_left(7) ^ mix(word)))
}
