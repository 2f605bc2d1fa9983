//! Map elements on the real kernel, in batches.

use super::Linux;
use crate::kernel::{KernelError, Outcome, Put, Tables};
use crate::layout::Map;

#[expect(unused_variables, reason = "landed first for its signatures")]
impl Tables for Linux {
    fn max_entries(&self, map: Map) -> Result<u32, KernelError> {
        todo!()
    }
    fn lookup(&self, map: Map, key: &[u8], value: &mut [u8]) -> Result<bool, KernelError> {
        todo!()
    }
    fn lookup_per_cpu(&self, map: Map, index: u32) -> Result<Vec<u64>, KernelError> {
        todo!()
    }
    fn scan(
        &self,
        map: Map,
        end: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), KernelError> {
        todo!()
    }
    fn update_batch(&mut self, map: Map, keys: &[u8], values: &[u8]) -> Result<(), KernelError> {
        todo!()
    }
    fn delete_batch(&mut self, map: Map, keys: &[u8]) -> Result<(), KernelError> {
        todo!()
    }
    fn update(
        &mut self,
        map: Map,
        key: &[u8],
        value: &[u8],
        put: Put,
    ) -> Result<Outcome, KernelError> {
        todo!()
    }
    fn delete(&mut self, map: Map, key: &[u8]) -> Result<Outcome, KernelError> {
        todo!()
    }
    fn grace(&mut self) -> Result<(), KernelError> {
        todo!()
    }
}
