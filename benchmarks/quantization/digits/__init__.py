"""8 bits, and labels: small networks trained on handwritten digits, and how many they tell right in 8 bits."""
