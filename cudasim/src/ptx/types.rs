//! Names of the manual: fundamental types (5.2) and state spaces (5.1).

macro_rules! types {
    ($($ty:ident $bits:literal),*) => {
        /// A fundamental type, or the packed pairs that half-precision instructions take.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Type { $($ty),* }

        impl Type {
            /// The type of a modifier, `f32`.
            pub fn parse(name: &str) -> Option<Type> {
                let mut all = [$((stringify!($ty), Type::$ty)),*].into_iter();
                all.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, ty)| ty)
            }

            pub fn bits(self) -> u32 {
                match self { $(Type::$ty => $bits),* }
            }
        }
    };
}

types! {
    Pred 1, B8 8, B16 16, B32 32, B64 64, U8 8, U16 16, U32 32, U64 64, S8 8, S16 16, S32 32, S64 64,
    F16 16, F16x2 32, BF16 16, BF16x2 32, F32 32, F64 64
}

impl Type {
    pub fn bytes(self) -> usize {
        self.bits().div_ceil(8) as usize
    }

    /// The low bits of a word as a signed or unsigned number.
    pub fn extend(self, word: u64) -> u64 {
        let above = 64 - self.bits();
        if self.is_signed() { ((word << above) as i64 >> above) as u64 } else { word << above >> above }
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    pub fn is_float(self) -> bool {
        matches!(self, Type::F16 | Type::F16x2 | Type::BF16 | Type::BF16x2 | Type::F32 | Type::F64)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    Generic,
    Global,
    /// The block's own, `.shared::cta`, or any of its cluster's.
    Shared,
    SharedCluster,
    Local,
    Param,
    Const,
}

impl Space {
    pub fn parse(modifier: &str) -> Option<Space> {
        Some(match modifier {
            "global" => Space::Global,
            "shared" | "shared::cta" => Space::Shared,
            "shared::cluster" => Space::SharedCluster,
            "local" => Space::Local,
            "param" => Space::Param,
            "const" => Space::Const,
            _ => return None,
        })
    }

    /// The space that an opcode's modifiers name.
    pub fn of(modifiers: &[&str]) -> Space {
        modifiers.iter().find_map(|m| Space::parse(m)).unwrap_or(Space::Generic)
    }
}
