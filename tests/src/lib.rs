//! The workload zoo as data, and what runs it.
