pub mod inherited;
