//! What a NACK says.

/// So many are named in one NACK.
const NACKED: usize = 20;

/// What a NACK says: the first refused resources by name, the rest as a number.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    listed: Vec<String>,
    more: usize,
}

impl Wrong {
    pub(super) fn add(&mut self, name: &str, why: &str) {
        if self.listed.len() < NACKED {
            self.listed.push(format!("{name}: {why}"));
        } else {
            self.more += 1;
        }
    }

    pub(super) fn text(mut self) -> Option<String> {
        if self.more > 0 {
            self.listed.push(format!("and {} more", self.more));
        }
        (!self.listed.is_empty()).then(|| self.listed.join("\n"))
    }
}
