//! Reading a FlatBuffer whose sender is not trusted: every offset is checked before it is followed.
//!
//! The reader of the `flatbuffers` crate is `unsafe` unless a verifier made from a schema has run before.

/// An offset that leads out of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfBounds;

/// A table of a FlatBuffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    buffer: &'a [u8],
    at: usize,
}

/// A vector of a FlatBuffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vector<'a> {
    buffer: &'a [u8],
    at: usize,
    pub(super) length: usize,
}

type Read<T> = Result<T, OutOfBounds>;

impl<'a> Table<'a> {
    /// The root of a buffer.
    pub(super) fn root(buffer: &'a [u8]) -> Read<Self> {
        Ok(Self {
            buffer,
            at: follow(buffer, 0)?,
        })
    }

    /// A number of type `long`, 0 if it is left out.
    pub(super) fn long(self, field: usize) -> Read<i64> {
        self.field(field)?
            .map_or(Ok(0), |at| Ok(i64::from_le_bytes(bytes(self.buffer, at)?)))
    }

    /// A byte, or `default` if it is left out.
    pub(super) fn byte(self, field: usize, default: u8) -> Read<u8> {
        self.field(field)?
            .map_or(Ok(default), |at| Ok(bytes::<1>(self.buffer, at)?[0]))
    }

    /// A text, empty if it is left out.
    pub(super) fn text(self, field: usize) -> Read<&'a [u8]> {
        self.vector(field)?.map_or(Ok(&[]), Vector::bytes)
    }

    /// A vector, if there is one.
    pub(super) fn vector(self, field: usize) -> Read<Option<Vector<'a>>> {
        let Some(at) = self.field(field)? else {
            return Ok(None);
        };
        Vector::at(self.buffer, follow(self.buffer, at)?).map(Some)
    }

    /// A table, if there is one.
    pub(super) fn table(self, field: usize) -> Read<Option<Self>> {
        let Some(at) = self.field(field)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            buffer: self.buffer,
            at: follow(self.buffer, at)?,
        }))
    }

    /// Where a field stands, if it is there.
    fn field(self, field: usize) -> Read<Option<usize>> {
        let back = i64::from(i32::from_le_bytes(bytes(self.buffer, self.at)?));
        let fields = usize::try_from(self.at as i64 - back).map_err(|_| OutOfBounds)?;
        let length = usize::from(u16::from_le_bytes(bytes(self.buffer, fields)?));
        let slot = 4 + 2 * field;
        if slot + 2 > length {
            return Ok(None);
        }
        let offset = usize::from(u16::from_le_bytes(bytes(self.buffer, fields + slot)?));
        Ok((offset > 0).then_some(self.at + offset))
    }
}

impl<'a> Vector<'a> {
    fn at(buffer: &'a [u8], at: usize) -> Read<Self> {
        let length = u32::from_le_bytes(bytes(buffer, at)?) as usize;
        Ok(Self {
            buffer,
            at: at + 4,
            length,
        })
    }

    /// Its elements, if they are bytes.
    pub(super) fn bytes(self) -> Read<&'a [u8]> {
        let end = self.at.checked_add(self.length).ok_or(OutOfBounds)?;
        self.buffer.get(self.at..end).ok_or(OutOfBounds)
    }

    /// Its elements, if they are texts.
    pub(super) fn texts(self) -> impl Iterator<Item = Read<&'a [u8]>> {
        self.offsets()
            .map(move |at| Self::at(self.buffer, at?)?.bytes())
    }

    /// Its elements, if they are tables.
    pub(super) fn tables(self) -> impl Iterator<Item = Read<Table<'a>>> {
        self.offsets().map(move |at| {
            Ok(Table {
                buffer: self.buffer,
                at: at?,
            })
        })
    }

    /// Where its elements stand; no more of them than have room in the buffer.
    fn offsets(self) -> impl Iterator<Item = Read<usize>> {
        let room = self.buffer.len().saturating_sub(self.at) / 4;
        let is_whole = self.length <= room;
        (0..self.length.min(room + 1)).map(move |place| {
            if !is_whole {
                return Err(OutOfBounds);
            }
            follow(self.buffer, self.at + 4 * place)
        })
    }
}

/// Where the offset at `at` leads.
fn follow(buffer: &[u8], at: usize) -> Read<usize> {
    let offset = u32::from_le_bytes(bytes(buffer, at)?) as usize;
    Ok(at + offset)
}

fn bytes<const N: usize>(buffer: &[u8], at: usize) -> Read<[u8; N]> {
    let end = at.checked_add(N).ok_or(OutOfBounds)?;
    let bytes = buffer.get(at..end).ok_or(OutOfBounds)?;
    bytes.try_into().map_err(|_| OutOfBounds)
}
