/** Prints the instruction set that the kernels run on here, as JSON. */
import { Context } from "../../ffi/mod.ts";

using context = Context.open();
console.log(JSON.stringify(context.describe().isa));
