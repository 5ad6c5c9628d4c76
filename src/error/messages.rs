//! How errors are declared: each beside its message.

/// An enum and its messages, each beside what it is the message of.
macro_rules! errors {
    (
        $(#[$of_all:meta])*
        pub enum $enum:ident {
            $(
                $(#[doc = $about:literal])+
                #[error($text:literal $(, $argument:expr)* $(,)?)]
                $name:ident $({ $( $(#[doc = $field_about:literal])+ $field:ident: $type:ty, )+ })?,
            )+
        }
    ) => {
        $(#[$of_all])*
        pub enum $enum {
            $( $(#[doc = $about])+ $name $({ $( $(#[doc = $field_about])+ $field: $type, )+ })?, )+
        }

        impl std::fmt::Display for $enum {
            #[allow(unused_variables, reason = "a message need not have all fields")]
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $( Self::$name $({ $($field),+ })? => write!(f, $text $(, $argument)*), )+
                }
            }
        }

        impl $enum {
            #[allow(dead_code, reason = "for an enum whose debug format is not derived")]
            fn fields(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $( Self::$name $({ $($field),+ })? => {
                        f.debug_struct(stringify!($name))$($(.field(stringify!($field), $field))+)?.finish()
                    } )+
                }
            }
        }
    };
}

pub(crate) use errors;
