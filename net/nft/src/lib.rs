//! pintle-nft.
