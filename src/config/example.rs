//! Holds `config.example.toml` to the code: every key of every part is in it, none that is not, and what it shows as the
//! default is the default. The keys are what serde's derived readers ask for.
