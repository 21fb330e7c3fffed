--- models.lua: the model files of this machine: which there are, which one is meant, what sums are
--- recorded for them. Reads names, sizes and small text files; never a model.

local config = require('gemma.config')
local util = require('gemma.util')

local M = {}

local uv = vim.uv

--- Chosen by :Gemma model in this session; wins over model_path.
M.chosen = nil ---@type string?

--- Where models are looked for when model_path is not set, and where install puts them.
---@return string
function M.dir()
  return vim.fs.joinpath(vim.fn.stdpath('data') --[[@as string]], 'gemma')
end

--- The small model that comes with the plugin; nil where its files are not, or when they are not wanted.
---@return string? path
function M.embedded()
  local path = require('gemma.ffi').file('tools/embedded/model/gemma-embedded.gguf')
  return config.get().embedded and uv.fs_stat(path) and path or nil
end

local told = false -- in this session, where it cannot be written down

--- Writes down that the user of this machine was told of the small model; the caller tells it.
---@param path string the model that was loaded
---@return boolean news it is the small one, and nobody was told before
function M.mark_embedded_told(path)
  local mark = util.state_path('told-embedded')
  if told or path ~= M.embedded() or uv.fs_stat(mark) then
    return false
  end
  told = true
  pcall(vim.fn.mkdir, vim.fs.dirname(mark), 'p')
  local f = io.open(mark, 'wb')
  if f then
    f:close()
  end
  return true
end

--- Keeps the choice for the next session.
---@return string
local function choice_path()
  return util.state_path('model')
end

---@param path string
---@return string? text without blanks at its ends
local function read(path)
  local text = util.read_file(path, 4096)
  return text and vim.trim(text)
end

---@class gemma.ModelFile
---@field name string
---@field path string
---@field bytes integer of all parts
---@field time integer
---@field parts string[] paths; more than one for a split model

--- Models of the folder by name. Of a split model the first part stands for all; files for pictures
--- and sounds (mmproj) and for drafting (mtp) are no models of their own.
---@return gemma.ModelFile[]
function M.list()
  local out, split = {}, {}
  local ok, iter, state = pcall(vim.fs.dir, M.dir())
  if not ok then
    return out
  end
  for name in iter, state do
    local path = vim.fs.joinpath(M.dir(), name)
    local stat = name:match('%.gguf$') and not name:match('^m[mt]p') and uv.fs_stat(path)
    if stat and stat.type == 'file' then
      local stem, part = name:match('^(.*)%-(%d%d%d%d%d)%-of%-%d%d%d%d%d%.gguf$')
      local file = { name = name, path = path, bytes = stat.size, time = stat.mtime.sec }
      file.parts = { path }
      if not part then
        out[#out + 1] = file
      else
        split[stem] = split[stem] or {}
        table.insert(split[stem], file)
      end
    end
  end
  for _, files in pairs(split) do
    table.sort(files, function(a, b)
      return a.name < b.name
    end)
    local first = files[1]
    if first.name:find('-00001-of-', 1, true) then
      for i = 2, #files do
        first.bytes = first.bytes + files[i].bytes
        first.parts[i] = files[i].path
      end
      out[#out + 1] = first
    end
  end
  table.sort(out, function(a, b)
    return a.name < b.name
  end)
  return out
end

--- What the first model that :Gemma install offers weighs.
---@return string
function M.size_of_real()
  return require('gemma.util').bytes(require('gemma.catalog')[1].bytes)
end

--- The model to load: the one chosen in this session, model_path, the one chosen before, the newest
--- of the folder, or the small one that comes with the plugin.
---@return string? path
---@return string? err
function M.find()
  if M.chosen and uv.fs_stat(M.chosen) then
    return M.chosen
  end
  local path = config.get().model_path
  if path then
    path = require('gemma.util').path(path)
    if uv.fs_stat(path) then
      return path
    end
    return nil, ('no model at %s. Check model_path.'):format(path)
  end
  local remembered = read(choice_path())
  local best ---@type gemma.ModelFile?
  for _, file in ipairs(M.list()) do
    if file.path == remembered then
      return file.path
    elseif not best or file.time > best.time then
      best = file
    end
  end
  local path_of_best = best and best.path or M.embedded()
  if path_of_best then
    return path_of_best
  end
  local size = M.size_of_real()
  local dir = vim.fn.fnamemodify(M.dir(), ':~')
  return nil, ('no model. Run :Gemma install model (%s) or put it in %s.'):format(size, dir)
end

--- This one from now on, also in later sessions.
---@param path string
function M.choose(path)
  M.chosen = path
  pcall(vim.fn.mkdir, vim.fs.dirname(choice_path()), 'p')
  local f = io.open(choice_path(), 'wb')
  if f then
    f:write(path, '\n')
    f:close()
  end
end

-- ---- the file for pictures and sounds ------------------------------------------------------

--- The words of a file's name, in small letters.
---@param path string
---@return fun(): string
local function words_of(path)
  return vim.fs.basename(path):lower():gmatch('%w+')
end

--- The mmproj*.gguf files of a folder.
---@param dir string
---@return { path: string, time: integer }[]
local function mmproj_files(dir)
  local out = {}
  local ok, iter, state = pcall(vim.fs.dir, dir)
  if not ok then
    return out
  end
  for name in iter, state do
    local path = vim.fs.joinpath(dir, name)
    local stat = name:match('^mmproj.*%.gguf$') and uv.fs_stat(path)
    if stat and stat.type == 'file' then
      out[#out + 1] = { path = path, time = stat.mtime.sec }
    end
  end
  return out
end

--- The file for pictures and sounds: mmproj_path, or mmproj*.gguf beside the model. Of several it is
--- the one whose name shares most words with the model's name, and the newest of those.
---@param model string
---@return string? path
---@return string? err
function M.find_mmproj(model)
  local path = config.get().mmproj_path
  if path then
    path = require('gemma.util').path(path)
    if uv.fs_stat(path) then
      return path
    end
    return nil, ('no file at %s. Check mmproj_path.'):format(path)
  end
  local dir = vim.fs.dirname(model)
  local of_model = {}
  for word in words_of(model) do
    of_model[word] = true
  end
  local best, best_score
  for _, file in ipairs(mmproj_files(dir)) do
    local score = 0
    for word in words_of(file.path) do
      score = score + (of_model[word] and 1 or 0)
    end
    if not best or score > best_score or (score == best_score and file.time > best.time) then
      best, best_score = file, score
    end
  end
  if best then
    return best.path
  end
  local fmt = 'no mmproj file. Put mmproj*.gguf beside the model: %s, or set mmproj_path.'
  return nil, fmt:format(vim.fn.fnamemodify(dir, ':~'))
end

-- ---- sums ----------------------------------------------------------------------------------

--- The file beside a model that holds its sum, as `sha256sum -c` reads it.
---@param path string
---@return string
function M.sum_path(path)
  return path .. '.sha256'
end

--- What a file's sum should be.
---@param path string
---@return string? hex
---@return string? source 'recorded' or 'published'
function M.known_sum(path)
  local hex = (read(M.sum_path(path)) or ''):match('^(%x+)')
  if hex and #hex == 64 then
    return hex:lower(), 'recorded'
  end
  local name, stat = vim.fs.basename(path), uv.fs_stat(path)
  for _, file in ipairs(require('gemma.catalog')) do
    if file.file == name and file.sha256 and stat and stat.size == file.bytes then
      return file.sha256, 'published'
    end
  end
end

---@param path string
---@param hex string
---@return boolean
function M.record_sum(path, hex)
  local f = io.open(M.sum_path(path), 'wb')
  if not f then
    return false
  end
  local written = f:write(hex, '  ', vim.fs.basename(path), '\n')
  if f:close() and written then -- a full disk may show at either
    return true
  end
  os.remove(M.sum_path(path)) -- half a sum is none
  return false
end

return M
