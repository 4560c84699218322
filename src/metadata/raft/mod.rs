//! openraft on a storage log: the only folder that names it.
