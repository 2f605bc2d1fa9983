//! A reader of the BTF of an object file: structs, enumerators, map definitions. Just as much
//! as the comparison needs; what it does not know, it refuses.

use std::collections::BTreeMap;

use object::{Object as _, ObjectSection as _};

/// A field: offset and size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub offset: usize,
    pub size: usize,
}

/// A struct.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struct {
    pub size: usize,
    pub fields: BTreeMap<String, Field>,
}

/// A map definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapDef {
    pub kind: u32,
    pub key_size: usize,
    pub value_size: usize,
    pub max_entries: u32,
    pub flags: u32,
    pub pinning: u32,
}

/// What an object says of the layout.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub structs: BTreeMap<String, Struct>,
    pub enumerators: BTreeMap<String, i64>,
    pub maps: BTreeMap<String, MapDef>,
}

#[derive(Debug)]
enum Kind {
    Sized,
    Pointer(u32),
    Array { of: u32, count: u32 },
    Struct(Vec<(u32, u32, u32)>),
    Enum(Vec<(u32, i64)>),
    Alias(u32),
    Var(u32),
    DataSec(Vec<u32>),
    Other,
}

#[derive(Debug)]
struct Type {
    name: u32,
    size: u32,
    kind: Kind,
}

struct Btf<'a> {
    types: Vec<Type>,
    strings: &'a [u8],
}

/// Reads the `.BTF` of an ELF file of this machine's byte order.
pub fn read(elf: &[u8]) -> Layout {
    let file = object::File::parse(elf).expect("an ELF file");
    let section = file.section_by_name(".BTF").expect("an object file with BTF");
    Btf::parse(section.data().expect("the bytes of .BTF")).layout()
}

/// Takes u32 after u32.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn take(&mut self) -> u32 {
        let (word, rest) = self.0.split_first_chunk().expect("BTF that is not cut off");
        self.0 = rest;
        u32::from_ne_bytes(*word)
    }

    fn take_signed(&mut self) -> i32 {
        i32::from_ne_bytes(self.take().to_ne_bytes())
    }
}

impl<'a> Btf<'a> {
    fn parse(data: &'a [u8]) -> Self {
        let mut header = Words(data);
        assert_eq!(header.take() & 0xffff, 0xeb9f, "BTF of this byte order");
        let [length, at, size, strings, strings_size] = [(); 5].map(|()| header.take() as usize);
        let mut words = Words(&data[length + at..length + at + size]);
        let mut types = vec![Type { name: 0, size: 0, kind: Kind::Other }];
        while !words.0.is_empty() {
            types.push(Self::one(&mut words));
        }
        Self { types, strings: &data[length + strings..length + strings + strings_size] }
    }

    /// One type, as <linux/btf.h> has it.
    fn one(words: &mut Words<'_>) -> Type {
        let [name, info, size] = [(); 3].map(|()| words.take());
        let count = info & 0xffff;
        let kind = match info >> 24 & 0x1f {
            1 => (words.take(), Kind::Sized).1,
            2 => Kind::Pointer(size),
            3 => {
                let [of, _, count] = [(); 3].map(|()| words.take());
                Kind::Array { of, count }
            }
            4 | 5 => Kind::Struct(
                (0..count).map(|_| (words.take(), words.take(), words.take())).collect(),
            ),
            6 => {
                Kind::Enum((0..count).map(|_| (words.take(), words.take_signed().into())).collect())
            }
            7 | 12 => Kind::Other,
            8..=11 | 18 => Kind::Alias(size),
            13 => {
                words.0 = &words.0[8 * count as usize..];
                Kind::Other
            }
            14 => (words.take(), Kind::Var(size)).1,
            15 => Kind::DataSec(
                (0..count).map(|_| (words.take(), words.take(), words.take()).0).collect(),
            ),
            17 => (words.take(), Kind::Other).1,
            19 => Kind::Enum((0..count).map(|_| Self::wide_enumerator(words)).collect()),
            other => panic!("BTF kind {other} is not known to this reader"),
        };
        Type { name, size, kind }
    }

    fn wide_enumerator(words: &mut Words<'_>) -> (u32, i64) {
        let [name, low, high] = [(); 3].map(|()| words.take());
        (name, i64::from(high) << 32 | i64::from(low))
    }

    fn layout(&self) -> Layout {
        let mut layout = Layout::default();
        for ty in &self.types {
            match &ty.kind {
                Kind::Struct(members) if ty.name != 0 => {
                    let of = Struct { size: ty.size as usize, fields: self.fields(members) };
                    layout.structs.insert(self.text(ty.name), of);
                }
                Kind::Enum(values) => {
                    let named = values.iter().map(|(name, value)| (self.text(*name), *value));
                    layout.enumerators.extend(named);
                }
                Kind::DataSec(vars) if self.text(ty.name) == ".maps" => {
                    layout.maps = vars.iter().map(|var| self.map(*var)).collect();
                }
                _ => {}
            }
        }
        layout
    }

    fn fields(&self, members: &[(u32, u32, u32)]) -> BTreeMap<String, Field> {
        let field = |(name, ty, bits): &(u32, u32, u32)| {
            let field = Field { offset: *bits as usize / 8, size: self.size(*ty) };
            (self.text(*name), field)
        };
        members.iter().map(field).collect()
    }

    /// A map definition: its numbers are lengths of arrays, its types are pointed to.
    fn map(&self, var: u32) -> (String, MapDef) {
        let Kind::Var(ty) = self.types[var as usize].kind else { panic!("a variable in .maps") };
        let Kind::Struct(members) = &self.resolve(ty).kind else { panic!("a struct in .maps") };
        let mut def = MapDef::default();
        for (name, ty, _) in members {
            let Kind::Pointer(to) = self.resolve(*ty).kind else { panic!("a pointer in a map") };
            let number = match self.resolve(to).kind {
                Kind::Array { count, .. } => count,
                _ => 0,
            };
            match self.text(*name).as_str() {
                "type" => def.kind = number,
                "key" => def.key_size = self.size(to),
                "value" => def.value_size = self.size(to),
                "max_entries" => def.max_entries = number,
                "map_flags" => def.flags = number,
                "pinning" => def.pinning = number,
                other => panic!("a map has {other}, which this reader does not know"),
            }
        }
        (self.text(self.types[var as usize].name), def)
    }

    fn resolve(&self, ty: u32) -> &Type {
        match self.types[ty as usize].kind {
            Kind::Alias(to) => self.resolve(to),
            _ => &self.types[ty as usize],
        }
    }

    fn size(&self, ty: u32) -> usize {
        let ty = self.resolve(ty);
        match ty.kind {
            Kind::Pointer(_) => 8,
            Kind::Array { of, count } => self.size(of) * count as usize,
            _ => ty.size as usize,
        }
    }

    fn text(&self, at: u32) -> String {
        let bytes = self.strings[at as usize..].split(|byte| *byte == 0).next();
        String::from_utf8(bytes.expect("a string").to_vec()).expect("UTF-8 in BTF")
    }
}
