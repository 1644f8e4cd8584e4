//! What is said over sockets, in bytes and in types. Reading it is pure; sockets are the kernel side's.

pub mod notify;
