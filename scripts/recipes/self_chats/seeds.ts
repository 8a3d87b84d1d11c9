/**
 * Beginnings of conversations: a topic in a form. A form that ends in a full stop or a question mark is a whole message; any other is
 * the beginning of one, which the model completes.
 */

interface SeedGroup {
  readonly topics: readonly string[];
  /** With {} where the topic goes. */
  readonly forms: readonly string[];
}

const GROUPS: readonly SeedGroup[] = [
  {
    topics: [
      "volcanoes",
      "the moon",
      "gravity",
      "rainbows",
      "honey bees",
      "the water cycle",
      "vaccines",
      "electricity",
      "black holes",
      "the human heart",
      "sleep",
      "dinosaurs",
      "coral reefs",
      "the stock market",
      "democracy",
      "the Roman Empire",
      "the printing press",
      "jazz",
      "chess",
      "bicycles",
      "computers",
      "the internet",
      "machine learning",
      "prime numbers",
      "fractions",
      "the alphabet",
      "tea",
      "chocolate",
      "trees",
      "whales",
      "earthquakes",
      "batteries",
    ],
    forms: [
      "Tell me about {}.",
      "Explain {} in simple words.",
      "What should a beginner know about {}?",
      "Give me three interesting facts about {}.",
      "Write a short paragraph about {}.",
      "What do people often get wrong about {}?",
      "Write a short poem about {}.",
      "Can you recommend a way to learn more about {}?",
      "I have a question about {}:",
      "When it comes to {}, what is the difference between",
      "Who was the first person to",
      "Why are scientists interested in {} and",
    ],
  },
  {
    topics: [
      "bake bread",
      "learn a new language",
      "write a cover letter",
      "save money",
      "grow tomatoes",
      "sleep better",
      "prepare for an exam",
      "make new friends",
      "clean a kitchen",
      "start running",
      "plan a birthday party",
      "fix a flat tire",
      "read more books",
      "give a speech",
      "take better photos",
      "train a dog",
      "cook rice",
      "write clean code",
      "stay calm under pressure",
      "pack for a long trip",
      "use less water at home",
      "play the guitar",
    ],
    forms: [
      "How do I {}?",
      "What is the best way to {}?",
      "Give me five tips to {}.",
      "I want to {}. Where do I start?",
      "What mistakes should I avoid when I try to {}?",
      "Make a checklist that helps me {}.",
      "How long does it take to {}?",
      "I tried to {}, but",
      "My friend wants to {} and asks",
      "Is it possible to {} without",
    ],
  },
  {
    topics: [
      "Japan",
      "Brazil",
      "Egypt",
      "Canada",
      "Italy",
      "India",
      "Kenya",
      "Norway",
      "Mexico",
      "Australia",
      "Germany",
      "Spain",
      "China",
      "Peru",
      "Greece",
      "Turkey",
    ],
    forms: [
      "What is the capital of {}?",
      "Which languages are spoken in {}?",
      "Name a famous food from {}.",
      "Which animals live in {}?",
      "What is the weather like in {}?",
      "On which continent is {}?",
      "Plan a weekend in {} for a family.",
      "What was {} like",
    ],
  },
  {
    topics: [
      "a lost dog",
      "a brave little robot",
      "a rainy day",
      "two old friends",
      "the first day of school",
      "a lighthouse",
      "a journey to Mars",
      "a magic garden",
      "a shy dragon",
      "winter",
    ],
    forms: [
      "Write a short story about {}.",
      "Write four lines that rhyme about {}.",
      "Suggest a title for a book about {}.",
      "Describe {} in two sentences.",
      "Write the first sentence of a novel about {}.",
      "Write a dialogue about {} between",
    ],
  },
  {
    topics: [
      "fruits",
      "planets",
      "musical instruments",
      "sports",
      "programming languages",
      "vegetables",
      "birds",
      "jobs",
      "colours",
      "board games",
      "metals",
      "holidays",
    ],
    forms: [
      "List five {}.",
      "Name three {} and say one thing about each.",
      "Which {} are the most popular?",
      "Sort some {} by",
    ],
  },
];

/** All combinations: what a user's first message is or begins with. */
export const SEEDS: readonly string[] = GROUPS.flatMap(({ topics, forms }) => [
  ...new Set(forms.flatMap((form) => topics.map((topic) => form.replace("{}", topic)))),
]);

/** Whether a seed is a whole message. */
export function isComplete(seed: string): boolean {
  return /[.?!]$/.test(seed);
}
