"""8 bits, and labels: small networks trained on handwritten digits, and how many they classify right in 8 bits."""
