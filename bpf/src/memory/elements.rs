//! Map elements of the kernel in memory: [`Tables`], with the faults of [`super::Fault`].

use std::io;

use super::{CPUS, Elements, MemoryKernel, fault_error};
use crate::kernel::{KernelError, Outcome, Put, Tables};
use crate::layout::Map;

impl Tables for MemoryKernel {
    fn max_entries(&self, map: Map) -> Result<u32, KernelError> {
        Ok(self.stored(map)?.info.max_entries)
    }

    fn lookup(&self, map: Map, key: &[u8], value: &mut [u8]) -> Result<bool, KernelError> {
        let stored = self.stored(map)?;
        match &stored.elements {
            Elements::Array(bytes) => {
                let at = stored.index(map, key)?;
                match bytes.get(at..at + value.len()) {
                    Some(found) => value.copy_from_slice(found),
                    None => value.fill(0),
                }
                Ok(true)
            }
            Elements::Hash(elements) => match elements.get(key) {
                Some(found) => {
                    value.copy_from_slice(found);
                    Ok(true)
                }
                None => Ok(false),
            },
        }
    }

    fn lookup_per_cpu(&self, map: Map, index: u32) -> Result<Vec<u64>, KernelError> {
        let mut value = [0; 8];
        self.lookup(map, &index.to_ne_bytes(), &mut value)?;
        let mut values = vec![0; CPUS];
        values[0] = u64::from_ne_bytes(value);
        Ok(values)
    }

    fn scan(
        &self,
        map: Map,
        end: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), KernelError> {
        let stored = self.stored(map)?;
        match &stored.elements {
            Elements::Array(bytes) => {
                let size = stored.info.value_size as usize;
                let end = end.min(stored.info.max_entries);
                let keys: Vec<u8> = (0..end).flat_map(u32::to_ne_bytes).collect();
                let mut values = bytes.clone();
                values.resize(end as usize * size, 0);
                for (keys, values) in keys.chunks(4 * 64).zip(values.chunks(size * 64)) {
                    visit(keys, values);
                }
            }
            Elements::Hash(elements) => {
                let keys: Vec<u8> = elements.keys().flatten().copied().collect();
                let values: Vec<u8> = elements.values().flatten().copied().collect();
                if !keys.is_empty() {
                    visit(&keys, &values);
                }
            }
        }
        Ok(())
    }

    fn update_batch(&mut self, map: Map, keys: &[u8], values: &[u8]) -> Result<(), KernelError> {
        let info = &self.stored(map)?.info;
        let (key_size, value_size) = (info.key_size as usize, info.value_size as usize);
        let limit = info.max_entries;
        let mut fault = self.enter();
        for (key, value) in keys.chunks(key_size).zip(values.chunks(value_size)) {
            if let Some((left, errno)) = &mut fault {
                if *left == 0 {
                    return Err(fault_error("update", map, limit, *errno));
                }
                *left -= 1;
            }
            self.put(map, key, value, Put::Any)?;
        }
        match fault {
            Some((_, errno)) => Err(fault_error("update", map, limit, errno)),
            None => Ok(()),
        }
    }

    fn delete_batch(&mut self, map: Map, keys: &[u8]) -> Result<(), KernelError> {
        let info = &self.stored(map)?.info;
        let (key_size, limit) = (info.key_size as usize, info.max_entries);
        let mut fault = self.enter();
        for key in keys.chunks(key_size) {
            if let Some((left, errno)) = &mut fault {
                if *left == 0 {
                    return Err(fault_error("delete", map, limit, *errno));
                }
                *left -= 1;
            }
            self.take(map, key)?;
        }
        match fault {
            Some((_, errno)) => Err(fault_error("delete", map, limit, errno)),
            None => Ok(()),
        }
    }

    fn update(
        &mut self,
        map: Map,
        key: &[u8],
        value: &[u8],
        put: Put,
    ) -> Result<Outcome, KernelError> {
        let limit = self.stored(map)?.info.max_entries;
        if let Some((_, errno)) = self.enter() {
            return Err(fault_error("update", map, limit, errno));
        }
        self.put(map, key, value, put)
    }

    fn delete(&mut self, map: Map, key: &[u8]) -> Result<Outcome, KernelError> {
        let limit = self.stored(map)?.info.max_entries;
        if let Some((_, errno)) = self.enter() {
            return Err(fault_error("delete", map, limit, errno));
        }
        self.take(map, key)
    }

    fn grace(&mut self) -> Result<(), KernelError> {
        if let Some((_, errno)) = self.enter() {
            let source = io::Error::from_raw_os_error(errno);
            return Err(KernelError::System { op: "wait for a grace period".to_owned(), source });
        }
        self.graces += 1;
        Ok(())
    }
}
