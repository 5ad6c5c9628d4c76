//! Each fault switched on must make a model fail.
