//! Integer arithmetic (9.7.1, 9.7.2), logic and shifts (9.7.8).

use crate::{arithmetic, integer};

const ALL: [&str; 6] = ["u16", "s16", "u32", "s32", "u64", "s64"];

#[test]
fn integer_arithmetic() {
    let same = |bits| bits;
    arithmetic("add", &ALL, 2, same, |a, b, _, _| a + b);
    arithmetic("sub", &ALL, 2, same, |a, b, _, _| a - b);
    arithmetic("mul.lo", &ALL, 2, same, |a, b, _, _| a.wrapping_mul(b));
    arithmetic("mul.hi", &["u32"], 2, same, |a, b, _, _| (a * b) >> 32);
    arithmetic("mul.hi", &["u64"], 2, same, |a, b, _, _| ((a as u128 * b as u128) >> 64) as i128);
    arithmetic("mul.wide", &["u16", "u32", "s32"], 2, |bits| 2 * bits, |a, b, _, _| a * b);
    arithmetic("mad.lo", &ALL, 3, same, |a, b, c, _| a.wrapping_mul(b).wrapping_add(c));
    arithmetic("mad.wide", &["u32", "s32"], 3, |bits| 2 * bits, |a, b, c, _| a * b + c);
    arithmetic("div", &ALL, 2, same, |a, b, _, _| if b == 0 { -1 } else { a / b });
    arithmetic("rem", &ALL, 2, same, |a, b, _, _| if b == 0 { a } else { a % b });
    arithmetic("min", &ALL, 2, same, |a, b, _, _| a.min(b));
    arithmetic("max", &ALL, 2, same, |a, b, _, _| a.max(b));
    arithmetic("neg", &["s32", "s64"], 1, same, |a, _, _, _| -a);
}

#[test]
fn bits() {
    integer("clz.b64 %w, %a; cvt.u64.u32 %d, %w;", |a, _, _| {
        (0..64).take_while(|i| a >> (63 - i) & 1 == 0).count() as u64
    });
    integer("clz.b32 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| {
        (0..32).take_while(|i| a >> (31 - i) & 1 == 0).count() as u64
    });
    let insert = |a: u64, b: u64, at: u64, len: u64, bits: u64| {
        (0..bits).fold(0, |d, i| d | (if i >= at && i < at + len { a >> (i - at) } else { b >> i } & 1) << i)
    };
    integer("bfi.b32 %w, %x, %y, %z, 5; cvt.u64.u32 %d, %w;", move |a, b, c| insert(a, b, c & 255, 5, 32));
    integer("bfi.b64 %d, %a, %b, 7, %z;", move |a, b, c| insert(a, b, 7, c & 255, 64));
    let bytes = |v: u64| (v as u32).to_le_bytes();
    let dot = move |a: u64, b: u64| (0..4).map(|i| bytes(a)[i] as i8 as i64 * bytes(b)[i] as i8 as i64).sum::<i64>();
    integer("dp4a.s32.s32 %w, %x, %y, %z; cvt.u64.u32 %d, %w;", move |a, b, c| (dot(a, b) + c as i64) as u32 as u64);
    integer("prmt.b32 %w, %x, %y, %z; cvt.u64.u32 %d, %w;", move |a, b, c| {
        let all = [bytes(a), bytes(b)].concat();
        (0..4).fold(0, |d, i| {
            let (byte, sign) = (all[(c >> (4 * i) & 7) as usize], c >> (4 * i + 3) & 1);
            d | (if sign == 0 {
                byte
            } else if byte > 127 {
                255
            } else {
                0
            } as u64)
                << (8 * i)
        })
    });
}

#[test]
fn extended_precision() {
    // 128-bit sums and differences of (a:x', b:y') as the compiler builds them.
    let sum = "add.cc.u32 %w, %x, %y; addc.u32 %v, %z, 0; mov.b64 %d, {%w, %v};";
    integer(sum, |a, b, c| (a as u32 as u64 + b as u32 as u64).wrapping_add(c << 32));
    let difference = "sub.cc.u32 %w, %x, %y; subc.u32 %v, %z, 0; mov.b64 %d, {%w, %v};";
    integer(difference, |a, b, c| (c << 32 | a as u32 as u64).wrapping_sub(b as u32 as u64));
    let product = "mad.lo.cc.u32 %w, %x, %y, %z; madc.hi.u32 %v, %x, %y, 0; mov.b64 %d, {%w, %v};";
    integer(product, |a, b, c| (a as u32 as u64 * b as u32 as u64).wrapping_add(c as u32 as u64));
    // A carry that goes through two sums and a product.
    let chain = "mad.lo.cc.u32 %w, %x, %y, %z; madc.hi.cc.u32 %v, %x, %y, %y; addc.u32 %u, 0, 0; mov.b64 %d, {%v, %u};";
    integer(chain, |a, b, c| {
        let [a, b, c] = [a, b, c].map(|v| v as u32 as u64);
        ((a * b) >> 32) + (((a * b) as u32 as u64 + c) >> 32) + b
    });
    let borrow = "sub.cc.u32 %w, %x, %y; subc.cc.u32 %v, %x, %z; subc.u32 %u, 0, 0; mov.b64 %d, {%v, %u};";
    integer(borrow, |a, b, c| {
        let [a, b, c] = [a, b, c].map(|v| v as u32 as u64);
        a.wrapping_sub(c + (a < b) as u64)
    });
    let middle =
        "mad.lo.cc.u32 %w, %x, %x, %y; madc.lo.cc.u32 %v, %y, %z, %z; addc.cc.u32 %u, %v, 0; mov.b64 %d, {%v, %u};";
    integer(middle, |a, b, c| {
        let [a, b, c] = [a, b, c].map(|v| v as u32 as u64);
        let carry = ((a * a) as u32 as u64 + b) >> 32;
        let sum = (b * c) as u32 as u64 + c + carry;
        (sum + (sum >> 32)) << 32 | sum as u32 as u64
    });
}

#[test]
fn logic_and_shifts() {
    integer("and.b64 %d, %a, %b;", |a, b, _| a & b);
    integer("or.b32 %w, %x, %y; cvt.u64.u32 %d, %w;", |a, b, _| (a | b) & 0xffff_ffff);
    integer("xor.b16 %l, %i, %j; cvt.u64.u16 %d, %l;", |a, b, _| (a ^ b) & 0xffff);
    integer("not.b32 %w, %x; cvt.u64.u32 %d, %w;", |a, _, _| a as u32 as u64 ^ 0xffff_ffff);
    integer(
        "shl.b32 %w, %x, %y; cvt.u64.u32 %d, %w;",
        |a, b, _| if b as u32 > 31 { 0 } else { a << (b as u32) & 0xffff_ffff },
    );
    integer("shl.b64 %d, %a, %y;", |a, b, _| a.checked_shl(b as u32).unwrap_or(0));
    integer("shr.u64 %d, %a, %y;", |a, b, _| a.checked_shr(b as u32).unwrap_or(0));
    integer("shr.s32 %w, %x, %y; cvt.u64.u32 %d, %w;", |a, b, _| (a as i32 as i64 >> (b as u32).min(63)) as u32 as u64);
    integer("shr.u16 %l, %i, %y; cvt.u64.u16 %d, %l;", |a, b, _| (a as u16 as u64).checked_shr(b as u32).unwrap_or(0));
    integer("shl.b16 %l, %i, %y; cvt.u64.u16 %d, %l;", |a, b, _| {
        (a as u16 as u64).checked_shl(b as u32).unwrap_or(0) & 0xffff
    });
    integer("setp.lt.u32 %r, %x, %y; mov.pred %s, %r; xor.pred %r, %s, 1; selp.u64 %d, 1, 0, %r;", |a, b, _| {
        (a as u32 >= b as u32) as u64
    });
    integer(
        "setp.lt.u32 %r, %x, %y; setp.lt.u32 %s, %y, %z; or.pred %r, %r, %s; not.pred %s, %s; and.pred %r, %r, %s; selp.u64 %d, 1, 0, %r;",
        |a, b, c| {
            let (r, s) = ((a as u32) < b as u32, (b as u32) < c as u32);
            (r && !s) as u64 // (r or s) and not s
        },
    );
}
