/**
 * Beginnings of conversations: a topic in a form. A seed that ends in a full stop or a question mark is a whole message; any other
 * is the beginning of one, which the model completes.
 */

interface SeedGroup {
  readonly topics: readonly string[];
  /** With {} where the topic goes. */
  readonly forms: readonly string[];
}

/** "tea | the moon", over as many lines as it takes. */
function topics(text: string): string[] {
  return text.split("|").map((topic) => topic.trim().replaceAll(/\s+/g, " "));
}

const GROUPS: readonly SeedGroup[] = [
  {
    topics: topics(`
      volcanoes | the moon | gravity | rainbows | honey bees | the water cycle | vaccines | electricity | black holes |
      the human heart | sleep | dinosaurs | coral reefs | the stock market | democracy | the Roman Empire |
      the printing press | jazz | chess | bicycles | computers | the internet | machine learning | prime numbers |
      fractions | the alphabet | tea | chocolate | trees | whales | earthquakes | batteries | the sun | comets |
      the planets | clouds | thunderstorms | snow | deserts | rain forests | rivers | glaciers | mountains | islands |
      sharks | penguins | elephants | butterflies | spiders | horses | cats | dogs | mushrooms | sunflowers | bread |
      cheese | coffee | salt | honey | rice | soccer | basketball | swimming | yoga | the Olympic Games | painting |
      photography | the piano | dancing | movies | fairy tales | poetry | robots | airplanes | trains | bridges | castles |
      the pyramids | Vikings | knights | explorers | money | taxes | insurance | recycling | solar energy | wind power |
      electric cars | plastic | vitamins | the brain | the lungs | bones | teeth | memory | dreams | friendship | kindness |
      teamwork | habits | stress | meditation | volunteering | public libraries | space travel | telescopes | magnets |
      sound | light | atoms | the seasons`),
    forms: [
      "Tell me about {}.",
      "Explain {} in simple words.",
      "What should a beginner know about {}?",
      "Give me three interesting facts about {}.",
      "Write a short paragraph about {}.",
      "What do people often get wrong about {}?",
      "Write a short poem about {}.",
      "Why do people like to read about {}?",
      "I have a question about {}:",
      "When it comes to {}, what is the difference between",
      "Why are scientists interested in {} and",
    ],
  },
  {
    topics: topics(`
      evaporation | inflation | a noun | an adjective | a metaphor | DNA | an ecosystem | a solar eclipse | a vitamin |
      an algorithm | a database | a budget | interest on a loan | a contract | a recipe | a map | a compass | a thermometer |
      a microscope | a semicolon | a synonym | a square root | a percentage | an average | a triangle | a symphony |
      a sonnet | a fable | a biography | an index | a habitat | a food chain | a fossil | a mineral | an orbit |
      a satellite | a password | a web browser | a virus | a muscle | a constitution | a president | a census | a continent |
      a peninsula | a time zone`),
    forms: [
      "What is {}?",
      "Define {} in one sentence.",
      "Give an example of {}.",
      "Can you explain what {} is, and why it matters?",
      "My teacher talked about {} and asked us",
    ],
  },
  {
    topics: topics(`
      bake bread | learn a new language | write a cover letter | save money | grow tomatoes | sleep better |
      prepare for an exam | make new friends | clean a kitchen | start running | plan a birthday party | fix a flat tire |
      read more books | give a speech | take better photos | train a dog | cook rice | write clean code |
      stay calm under pressure | pack for a long trip | use less water at home | play the guitar | make pancakes |
      boil an egg | plant a tree | paint a room | wash a sweater | iron a shirt | write a thank-you note | ask for a raise |
      find a new job | remember names | learn to swim | lose a few pounds | eat more vegetables | drink more water |
      wake up early | take good notes | study with friends | write a poem | draw a face | tell a story | organize a closet |
      repair a bicycle | build a birdhouse | start a garden | care for a cat | choose a laptop | protect a password |
      learn to type faster | write an email to a teacher | apologize to a friend | welcome a new neighbor |
      prepare a picnic | celebrate a graduation | stop worrying | be more patient | focus on homework | learn to juggle |
      fold a paper plane`),
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
    topics: topics(`
      Japan | Brazil | Egypt | Canada | Italy | India | Kenya | Norway | Mexico | Australia | Germany | Spain | China |
      Peru | Greece | Turkey | Argentina | Portugal | Sweden | Finland | Poland | Ireland | Scotland | Iceland | Russia |
      Thailand | Vietnam | South Korea | Indonesia | New Zealand | Morocco | Nigeria | South Africa | Chile | Cuba |
      Austria | Switzerland | Denmark`),
    forms: [
      "What is the capital of {}?",
      "Which languages are spoken in {}?",
      "Name a famous food from {}.",
      "Which animals live in {}?",
      "What is the weather like in {}?",
      "On which continent is {}?",
      "Plan a weekend in {} for a family.",
      "What is {} known for?",
      "What was {} like",
    ],
  },
  {
    topics: topics(`
      a lost dog | a brave little robot | a rainy day | two old friends | the first day of school | a lighthouse |
      a journey to Mars | a magic garden | a shy dragon | winter | a talking tree | a small village | an old clock |
      a secret door | a kind giant | a clever fox | a long train ride | a snowman | a pirate and a parrot |
      a young inventor | the last leaf of autumn | a night under the stars | a hidden treasure | a baker |
      a mouse and a lion | a city in the clouds | a summer at the lake | a broken toy | a grandmother | a wise owl`),
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
    topics: topics(`
      fruits | planets | musical instruments | sports | programming languages | vegetables | birds | jobs | colours |
      board games | metals | holidays | oceans | trees | insects | spices | desserts | rivers | inventions | hobbies |
      flowers | breakfast foods | pets | kitchen tools | school subjects | weather words | farm animals | kinds of music |
      famous scientists | famous painters`),
    forms: [
      "List five {}.",
      "Name three {} and say one thing about each.",
      "Which {} are the most popular?",
      "Name one of the {} that you would recommend and say why.",
      "Sort some {} by",
    ],
  },
  {
    topics: topics(`
      We was late because the bus did not came. | She don't like apples. | Me and him goes to school. | They has three dog. |
      I am writing to ask about the job. | The meeting is moved to Friday. | It is very cold outside today. |
      I cannot come to the party. | The movie was boring and too long. | He runs fast. | Our team won the game last night. |
      Please send the report by noon.`),
    forms: [
      "Rewrite this more politely: {}",
      "Correct the grammar: {}",
      "Say this in other words: {}",
      "Make this sentence longer: {}",
      "Is this sentence happy, sad or neutral? {}",
    ],
  },
  {
    topics: topics(`
      Hello! How are you? | Hi there! What can you do? | Good morning! Can you help me? | Who are you? | What is your name? |
      Tell me a joke. | Tell me a fun fact. | Can you tell me a riddle? | I am bored. What should I do? |
      I feel sad today. Can you help? | Say something nice, please. | What should I cook tonight? | Suggest a book to read. |
      Recommend a good movie. | Give me a quote about courage. | Wish me good luck for my exam, please. | What is 2 plus 2? |
      What is 7 times 8? | What is half of 30? | How many days are in a week? | How many minutes are in an hour? |
      Which is larger, a lake or an ocean?`),
    forms: ["{}"],
  },
];

/** All combinations: what a user's first message is or begins with. */
export const SEEDS: readonly string[] = GROUPS.flatMap((group) =>
  group.forms.flatMap((form) => group.topics.map((topic) => form.replace("{}", topic))),
);

/** Whether a seed is a whole message. */
export function isComplete(seed: string): boolean {
  return /[.?!]$/.test(seed);
}
