//! Prefix codes of DEFLATE blocks (RFC 1951, section 3.2) as lookup tables.

use super::bits::Bits;

/// Why bits are not a block, or not one that is worth guessing on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotABlock;

/// The two codes of a compressed block.
#[derive(Debug)]
pub(super) struct Codes {
    /// Literals, lengths and the end of the block.
    pub(super) symbols: Table,
    /// Distances.
    pub(super) distances: Table,
}

/// A prefix code: the next bits give an entry, at most over one further step.
#[derive(Debug)]
pub(super) struct Table {
    entries: Box<[u32; TABLE_ENTRIES]>,
    first_bits: u32,
}

/// What a code stands for.
///
/// The lowest five bits are what is taken in all, extra bits included; five bits of the next byte the code's own bits; the
/// upper half is a literal, a base length or a base distance. What is left over tells these apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Entry {
    #[inline(always)]
    pub(super) const fn is_literal(self) -> bool {
        self.0 & LITERAL != 0
    }

    /// The block's end, or a code that does not exist.
    #[inline(always)]
    pub(super) const fn is_special(self) -> bool {
        self.0 & SPECIAL != 0
    }

    pub(super) const fn is_end(self) -> bool {
        self.0 & (SPECIAL | END) == SPECIAL | END
    }

    /// Bits to take, extra bits included.
    #[inline(always)]
    pub(super) const fn bits(self) -> u32 {
        self.0 & BITS
    }

    /// The literal.
    #[inline(always)]
    pub(super) const fn literal(self) -> u16 {
        (self.0 >> 16) as u16 & 0xff
    }

    /// The length or distance: its base and the extra bits that `peeked` holds behind the code.
    #[inline(always)]
    pub(super) const fn value(self, peeked: u64) -> usize {
        let code_bits = (self.0 >> 8) & 0x1f;
        let extra = (peeked & ((1 << self.bits()) - 1)) >> code_bits;
        (self.0 >> 16) as usize + extra as usize
    }
}

impl Table {
    fn new(first_bits: u32) -> Self {
        Self {
            entries: Box::new([0; TABLE_ENTRIES]),
            first_bits,
        }
    }

    /// The entry of the code that `peeked` begins with.
    #[inline(always)]
    pub(super) fn entry(&self, peeked: u64) -> Entry {
        let first = self.entries[peeked as usize & ((1 << self.first_bits) - 1) & TABLE_MASK];
        if first & SUB == 0 {
            return Entry(first);
        }
        let sub_bits = first & BITS;
        let index = (peeked >> self.first_bits) as usize & ((1 << sub_bits) - 1);
        Entry(self.entries[((first >> 16) as usize + index) & TABLE_MASK])
    }

    /// Makes the code of `lengths`, whose symbols mean `meanings`. Over- and undersubscribed codes are refused, but for
    /// the one code of one bit that encoders make when there is a single distance, or none.
    fn build(&mut self, lengths: &[u8], meanings: &[u32]) -> Result<(), NotABlock> {
        let mut counts = [0_u32; CODE_BITS_MAX + 1];
        for length in lengths {
            counts[usize::from(*length) & CODE_BITS_MAX] += 1;
        }
        let unused = counts[0];
        counts[0] = 0;
        let mut left: i32 = 1;
        for count in &counts[1..] {
            left = (left << 1) - *count as i32;
            if left < 0 {
                return Err(NotABlock);
            }
        }
        let used = lengths.len() as u32 - unused;
        if left > 0 && (used > 1 || counts[1] != used) {
            return Err(NotABlock);
        }
        if left > 0 {
            self.entries[..1 << self.first_bits].fill(SPECIAL | 1);
        }
        self.fill(lengths, meanings, counts);
        Ok(())
    }

    fn fill(&mut self, lengths: &[u8], meanings: &[u32], mut counts: [u32; CODE_BITS_MAX + 1]) {
        let mut next = [0_u32; CODE_BITS_MAX + 2];
        let mut offsets = [0_usize; CODE_BITS_MAX + 2];
        for length in 1..=CODE_BITS_MAX {
            next[length + 1] = (next[length] + counts[length]) << 1;
            offsets[length + 1] = offsets[length] + counts[length] as usize;
        }
        let mut sorted = [0_u16; SYMBOLS_MAX];
        for (symbol, length) in lengths
            .iter()
            .enumerate()
            .filter(|(_, length)| **length > 0)
        {
            sorted[offsets[usize::from(*length)]] = symbol as u16;
            offsets[usize::from(*length)] += 1;
        }
        let used: u32 = counts.iter().sum();
        let first_size = 1_usize << self.first_bits;
        let (mut sub_at, mut sub_prefix, mut sub_bits) = (first_size, usize::MAX, 0);
        for symbol in &sorted[..used as usize] {
            let length = u32::from(lengths[usize::from(*symbol)]);
            let code = next[length as usize];
            next[length as usize] += 1;
            let reversed = (code.reverse_bits() >> (32 - length)) as usize;
            let meaning = meanings[usize::from(*symbol)];
            // Bits taken grow by the code's own; a second step takes the first one's bits as well.
            let entry = meaning + length + (length << 8);
            if length <= self.first_bits {
                let step = 1 << length;
                for index in (reversed..first_size).step_by(step) {
                    self.entries[index & TABLE_MASK] = entry;
                }
            } else {
                let prefix = reversed & (first_size - 1);
                if prefix != sub_prefix {
                    sub_at += if sub_prefix == usize::MAX {
                        0
                    } else {
                        1 << sub_bits
                    };
                    sub_prefix = prefix;
                    sub_bits = self.sub_table_bits(length, &counts);
                    self.entries[prefix & TABLE_MASK] = SUB | (sub_at as u32) << 16 | sub_bits;
                }
                let step = 1 << (length - self.first_bits);
                let from = reversed >> self.first_bits;
                for index in (from..1 << sub_bits).step_by(step) {
                    self.entries[(sub_at + index) & TABLE_MASK] = entry;
                }
            }
            counts[length as usize] -= 1;
        }
    }

    /// Bits of the sub-table that begins with a code of `length`: as many as complete it.
    fn sub_table_bits(&self, length: u32, counts: &[u32; CODE_BITS_MAX + 1]) -> u32 {
        let mut bits = length - self.first_bits;
        let mut left = (1_i32 << bits) - counts[length as usize] as i32;
        while left > 0 && bits + self.first_bits < CODE_BITS_MAX as u32 {
            bits += 1;
            left = (left << 1) - counts[(bits + self.first_bits) as usize] as i32;
        }
        bits
    }
}

impl Codes {
    /// Codes without a meaning; read or set them before use.
    pub(super) fn new() -> Self {
        Self {
            symbols: Table::new(SYMBOL_FIRST_BITS),
            distances: Table::new(DISTANCE_FIRST_BITS),
        }
    }

    /// The codes of blocks of type 1.
    pub(super) fn set_fixed(&mut self) -> Result<(), NotABlock> {
        let mut lengths = [8; 288];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        self.symbols.build(&lengths, &SYMBOL_MEANINGS)?;
        self.distances.build(&[5; 32], &DISTANCE_MEANINGS)
    }

    /// Reads the codes of a block of type 2; `bits` stand behind the block's first three bits.
    pub(super) fn read(&mut self, bits: &mut Bits<'_>) -> Result<(), NotABlock> {
        let symbols = bits.take(5) as usize + 257;
        let distances = bits.take(5) as usize + 1;
        let order = bits.take(4) as usize + 4;
        if symbols > 286 || distances > 30 {
            return Err(NotABlock);
        }
        let mut code_lengths = [0; 19];
        for place in &CODE_LENGTH_ORDER[..order] {
            code_lengths[*place] = bits.take(3) as u8;
        }
        let lengths = read_lengths(bits, &code_lengths, symbols + distances)?;
        if lengths[256] == 0 || bits.is_overrun() {
            return Err(NotABlock);
        }
        self.symbols.build(&lengths[..symbols], &SYMBOL_MEANINGS)?;
        let distances = &lengths[symbols..symbols + distances];
        self.distances.build(distances, &DISTANCE_MEANINGS)
    }
}

/// The code lengths of both codes, run-length encoded by a third one.
fn read_lengths(
    bits: &mut Bits<'_>,
    code_lengths: &[u8; 19],
    wanted: usize,
) -> Result<[u8; SYMBOLS_MAX + 32], NotABlock> {
    let mut table = [(0_u8, 0_u8); 128];
    let mut code = 0_usize;
    for length in 1..=7_u32 {
        for (symbol, _) in code_lengths
            .iter()
            .enumerate()
            .filter(|(_, own)| u32::from(**own) == length)
        {
            if code >= 1 << length {
                return Err(NotABlock);
            }
            let reversed = (code as u32).reverse_bits() >> (32 - length);
            for index in (reversed as usize..128).step_by(1 << length) {
                table[index] = (symbol as u8, length as u8);
            }
            code += 1;
        }
        code <<= 1;
    }
    // Seven bits, all used: 128 codes, doubled once more.
    if code != 256 {
        return Err(NotABlock);
    }
    let mut lengths = [0; SYMBOLS_MAX + 32];
    let mut at = 0;
    while at < wanted {
        bits.refill();
        let (symbol, length) = table[bits.peek() as usize & 127];
        bits.skip(u32::from(length));
        let (value, repeat) = match symbol {
            16 if at > 0 => (lengths[at - 1], 3 + bits.take(2) as usize),
            16 => return Err(NotABlock),
            17 => (0, 3 + bits.take(3) as usize),
            18 => (0, 11 + bits.take(7) as usize),
            length => (length, 1),
        };
        if at + repeat > wanted {
            return Err(NotABlock);
        }
        lengths[at..at + repeat].fill(value);
        at += repeat;
    }
    Ok(lengths)
}

const fn symbol_meanings() -> [u32; SYMBOLS_MAX] {
    let mut meanings = [SPECIAL; SYMBOLS_MAX];
    let mut literal = 0;
    while literal < 256 {
        meanings[literal] = LITERAL | (literal as u32) << 16;
        literal += 1;
    }
    meanings[256] = SPECIAL | END;
    let mut symbol = 257;
    let mut base = 3;
    while symbol < 285 {
        let step = symbol as u32 - 257;
        let extra = if step < 8 { 0 } else { step / 4 - 1 };
        meanings[symbol] = base << 16 | extra;
        base += 1 << extra;
        symbol += 1;
    }
    meanings[285] = 258 << 16;
    meanings
}

const fn distance_meanings() -> [u32; 32] {
    let mut meanings = [SPECIAL; 32];
    let mut symbol = 0;
    let mut base = 1;
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { symbol as u32 / 2 - 1 };
        meanings[symbol] = base << 16 | extra;
        base += 1 << extra;
        symbol += 1;
    }
    meanings
}

const BITS: u32 = 0x1f;
const LITERAL: u32 = 1 << 5;
const SPECIAL: u32 = 1 << 6;
const SUB: u32 = 1 << 13;
const END: u32 = 1 << 14;

const SYMBOL_MEANINGS: [u32; SYMBOLS_MAX] = symbol_meanings();
const DISTANCE_MEANINGS: [u32; 32] = distance_meanings();
const CODE_LENGTH_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];
const SYMBOLS_MAX: usize = 288;
const CODE_BITS_MAX: usize = 15;
/// Most codes of real blocks are no longer; a block's table is filled in two microseconds.
const SYMBOL_FIRST_BITS: u32 = 11;
const DISTANCE_FIRST_BITS: u32 = 9;
/// 2,342 entries are enough for 288 symbols at 11 bits; a power of two needs no bounds check.
const TABLE_ENTRIES: usize = 4096;
const TABLE_MASK: usize = TABLE_ENTRIES - 1;
