//! A door to the kernel that makes one call for each element, as a program without batch calls
//! does: what batches are held against.

use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{KernelError, Outcome, Put, Tables};
use kmesh_bpf::layout::Map;

/// See the module.
#[derive(Debug)]
pub struct OneByOne(pub Linux);

impl Tables for OneByOne {
    fn max_entries(&self, map: Map) -> Result<u32, KernelError> {
        self.0.max_entries(map)
    }

    fn lookup(&self, map: Map, key: &[u8], value: &mut [u8]) -> Result<bool, KernelError> {
        self.0.lookup(map, key, value)
    }

    fn lookup_per_cpu(&self, map: Map, index: u32) -> Result<Vec<u64>, KernelError> {
        self.0.lookup_per_cpu(map, index)
    }

    fn scan(
        &self,
        map: Map,
        end: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), KernelError> {
        self.0.scan(map, end, visit)
    }

    fn update_batch(&mut self, map: Map, keys: &[u8], values: &[u8]) -> Result<(), KernelError> {
        let shape = map.shape();
        let keys = keys.chunks_exact(shape.key_size as usize);
        for (key, value) in keys.zip(values.chunks_exact(shape.value_size as usize)) {
            self.0.update(map, key, value, Put::Any)?;
        }
        Ok(())
    }

    fn delete_batch(&mut self, map: Map, keys: &[u8]) -> Result<(), KernelError> {
        for key in keys.chunks_exact(map.shape().key_size as usize) {
            self.0.delete(map, key)?;
        }
        Ok(())
    }

    fn update(
        &mut self,
        map: Map,
        key: &[u8],
        value: &[u8],
        put: Put,
    ) -> Result<Outcome, KernelError> {
        self.0.update(map, key, value, put)
    }

    fn delete(&mut self, map: Map, key: &[u8]) -> Result<Outcome, KernelError> {
        self.0.delete(map, key)
    }

    fn grace(&mut self) -> Result<(), KernelError> {
        self.0.grace()
    }
}
