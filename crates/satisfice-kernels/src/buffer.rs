use bytemuck::{AnyBitPattern, NoUninit};
use memmap2::MmapMut;
use std::io;

/// Zeroed memory of its own, page by page from the system, aligned for every element.
#[derive(Debug)]
pub struct Buffer(MmapMut);

impl Buffer {
    /// Asks the system for `bytes` of memory.
    ///
    /// # Errors
    /// The system has not as much.
    pub fn zeroed(bytes: usize) -> io::Result<Self> {
        Ok(Self(MmapMut::map_anon(bytes.max(1))?))
    }

    /// Asks for memory in huge pages, where the system has them: random rows then miss the address
    /// cache less often. To be called before anything is written; says whether the system agreed.
    pub fn prefer_huge_pages(&mut self) -> bool {
        #[cfg(target_os = "linux")]
        return self.0.advise(memmap2::Advice::HugePage).is_ok();
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// The memory as values.
    pub fn values<T: AnyBitPattern>(&self) -> &[T] {
        bytemuck::cast_slice(whole::<T>(&self.0))
    }

    /// The memory as values that can be written.
    pub fn values_mut<T: AnyBitPattern + NoUninit>(&mut self) -> &mut [T] {
        let len = whole::<T>(&self.0).len();
        bytemuck::cast_slice_mut(&mut self.0[..len])
    }
}

/// As many bytes as whole values take.
fn whole<T>(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / size_of::<T>() * size_of::<T>()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut buffer = Buffer::zeroed(4099).unwrap();
        buffer.prefer_huge_pages();
        assert_eq!(buffer.values::<f32>(), [0.0; 1024]);
        buffer.values_mut::<f32>()[1023] = 2.5;
        assert_eq!(buffer.values::<f32>()[1023].to_bits(), 2.5_f32.to_bits());
    }
}
