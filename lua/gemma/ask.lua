--- ask.lua: one question to the model, with what was said before it: gemma.ask(), and the way by which
--- conversations, edits, commit messages and dictation ask.

local config = require('gemma.config')
local ready = require('gemma.ready')
local sessions = require('gemma.sessions')

local M = {}

---@class (exact) gemma.Turn
---@field role 'user'|'model'
---@field text string
---@field parts gemma.Part[]? of a user: pictures and sounds, before the text
---@field images string[]? paths; with the next two another way to give parts
---@field audio string[]?
---@field video string[]?

---@class (exact) gemma.AskOpts
---@field prompt string
---@field system string?
---@field parts gemma.Part[]? pictures and sounds, before the prompt's text
---@field images string[]? paths; with the next two another way to give parts
---@field audio string[]?
---@field video string[]?
---@field image_tokens integer? of each picture at most; |gemma-option-media.image_tokens|
---@field history gemma.Turn[]? earlier turns
---@field answer string? how the answer begins; the model goes on from there
---@field stops string[]? the answer ends before the first of these
---@field max_tokens integer? 1024
---@field thinking boolean?
---@field temperature number? when not set, the model file's own sampling
---@field seed integer?
---@field session integer? of sessions.lua; PLUGINS. What other plugins may choose, check.lua says
---@field fork_from integer? another session, from which to go on where its cache has more
---@field on_token fun(text: string)?
---@field on_thought fun(text: string)? what the model thinks, with thinking on
---@field on_progress fun(done: integer, total: integer)? tokens of the prompt read
--- err: the name of the error
---@field on_done fun(text: string?, info: gemma.Done|string, err: string?)? nil and one line on failure

--- Adds a turn to the parts of a prompt.
---@param parts gemma.Part[]
---@param role 'system'|'user'|'model'
---@param text string
---@param media gemma.Turn|gemma.AskOpts? whose pictures and sounds come before the text
local function add(parts, role, text, media)
  parts[#parts + 1] = { kind = role }
  if media then
    vim.list_extend(parts, media.parts or {})
    vim.list_extend(parts, require('gemma.media').parts(media))
  end
  parts[#parts + 1] = { kind = 'text', data = text }
end

---@param o gemma.AskOpts
---@return gemma.Part[]
local function prompt(o)
  local parts = {}
  if o.system then
    add(parts, 'system', o.system)
  end
  for _, turn in ipairs(o.history or {}) do
    add(parts, turn.role, turn.text, turn)
  end
  add(parts, 'user', o.prompt, o)
  if o.answer then
    add(parts, 'model', o.answer)
  end
  return parts
end

---@param o gemma.AskOpts
---@return integer? tokens of each picture at most; nil: as many as the model wants
local function image_tokens(o)
  local budget = config.get().media.image_tokens
  return o.image_tokens or (budget ~= 'auto' and budget or nil)
end

--- Asks the model; the text comes in pieces to on_token and as a whole to on_done.
---@param o gemma.AskOpts
---@return gemma.Handle
function M.ask(o)
  local text = {}
  return ready.submit({
    parts = prompt(o),
    session = o.session or sessions.PLUGINS,
    fork_from = o.fork_from,
    priority = 'ask',
    max_tokens = o.max_tokens or 1024,
    think = o.thinking,
    stops = o.stops,
    model_sampling = o.temperature == nil,
    temperature = o.temperature,
    seed = o.seed,
    image_tokens = image_tokens(o),
    on_progress = o.on_progress,
    on_thought = o.on_thought,
    on_text = function(piece)
      text[#text + 1] = piece
      if o.on_token then
        o.on_token(piece)
      end
    end,
    on_done = function(info)
      if o.on_done then
        o.on_done(table.concat(text), info)
      end
    end,
    on_error = function(err)
      if o.on_done then
        o.on_done(nil, err.text, err.name)
      end
    end,
  })
end

return M
