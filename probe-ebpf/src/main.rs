//! The kernel side of unpriv.
#![no_std]
#![no_main]
