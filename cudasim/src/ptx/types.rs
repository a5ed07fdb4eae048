//! Names of the manual: fundamental types (5.2), state spaces (5.1), special registers (10).

/// A fundamental type, or the packed pairs that half-precision instructions take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    BF16,
    BF16x2,
    F32,
    F64,
}

impl Type {
    pub fn parse(name: &str) -> Option<Type> {
        use Type::*;
        Some(match name {
            "pred" => Pred,
            "b8" => B8,
            "b16" => B16,
            "b32" => B32,
            "b64" => B64,
            "u8" => U8,
            "u16" => U16,
            "u32" => U32,
            "u64" => U64,
            "s8" => S8,
            "s16" => S16,
            "s32" => S32,
            "s64" => S64,
            "f16" => F16,
            "f16x2" => F16x2,
            "bf16" => BF16,
            "bf16x2" => BF16x2,
            "f32" => F32,
            "f64" => F64,
            _ => return None,
        })
    }

    pub fn bits(self) -> u32 {
        use Type::*;
        match self {
            Pred => 1,
            B8 | U8 | S8 => 8,
            B16 | U16 | S16 | F16 | BF16 => 16,
            B32 | U32 | S32 | F32 | F16x2 | BF16x2 => 32,
            B64 | U64 | S64 | F64 => 64,
        }
    }

    pub fn bytes(self) -> usize {
        self.bits().div_ceil(8) as usize
    }

    pub fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    pub fn is_float(self) -> bool {
        use Type::*;
        matches!(self, F16 | F16x2 | BF16 | BF16x2 | F32 | F64)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Space {
    Generic,
    Global,
    /// `.shared::cta`, the block's own; `.shared::cluster` reaches the others' as well.
    Shared,
    SharedCluster,
    Local,
    Param,
    Const,
}

impl Space {
    /// The space that an opcode's modifiers name.
    pub fn of(modifiers: &[&str]) -> Space {
        let parse = |m: &&str| {
            Some(match *m {
                "global" => Space::Global,
                "shared" | "shared::cta" => Space::Shared,
                "shared::cluster" => Space::SharedCluster,
                "local" => Space::Local,
                "param" | "param::entry" | "param::func" => Space::Param,
                "const" => Space::Const,
                _ => return None,
            })
        };
        modifiers.iter().find_map(parse).unwrap_or(Space::Generic)
    }
}

/// Three of a kind: `.x`, `.y`, `.z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    Clusterid(usize),
    Nclusterid(usize),
    ClusterCtaid(usize),
    ClusterNctaid(usize),
    ClusterCtarank,
    ClusterNctarank,
    IsExplicitCluster,
    Laneid,
    Warpid,
    Nwarpid,
    Smid,
    Nsmid,
    Gridid,
    LanemaskEq,
    LanemaskLe,
    LanemaskLt,
    LanemaskGe,
    LanemaskGt,
    Clock,
    DynamicSmemSize,
    TotalSmemSize,
    /// `%envreg1` and `%envreg2`: the upper and lower half of where a cooperative launch keeps its grid barrier.
    Envreg(usize),
}

impl Special {
    pub fn parse(name: &str) -> Option<Special> {
        use Special::*;
        let name = name.strip_prefix('%')?;
        if let Some((vector, axis)) = name.split_once('.') {
            let axis = ["x", "y", "z"].iter().position(|a| *a == axis)?;
            return Some(match vector {
                "tid" => Tid(axis),
                "ntid" => Ntid(axis),
                "ctaid" => Ctaid(axis),
                "nctaid" => Nctaid(axis),
                "clusterid" => Clusterid(axis),
                "nclusterid" => Nclusterid(axis),
                "cluster_ctaid" => ClusterCtaid(axis),
                "cluster_nctaid" => ClusterNctaid(axis),
                _ => return None,
            });
        }
        if let Some(n) = name.strip_prefix("envreg") {
            return Some(Envreg(n.parse().ok()?));
        }
        Some(match name {
            "cluster_ctarank" => ClusterCtarank,
            "cluster_nctarank" => ClusterNctarank,
            "is_explicit_cluster" => IsExplicitCluster,
            "laneid" => Laneid,
            "warpid" => Warpid,
            "nwarpid" => Nwarpid,
            "smid" => Smid,
            "nsmid" => Nsmid,
            "gridid" => Gridid,
            "lanemask_eq" => LanemaskEq,
            "lanemask_le" => LanemaskLe,
            "lanemask_lt" => LanemaskLt,
            "lanemask_ge" => LanemaskGe,
            "lanemask_gt" => LanemaskGt,
            "clock" | "clock_hi" | "clock64" | "globaltimer" | "globaltimer_lo" => Clock,
            "dynamic_smem_size" => DynamicSmemSize,
            "total_smem_size" => TotalSmemSize,
            _ => return None,
        })
    }
}
