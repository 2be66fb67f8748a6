//! The map layout that the kernel side and userspace share.
#![no_std]
