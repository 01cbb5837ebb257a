//! Lamina.
